"""How to get a trie from one state to another without a moment that is wrong.

A packet denied in both states must never pass between them, one allowed in both must never drop.
In place, denies are set first, then allows, then what is gone is removed. A reader looks twice: at
the entries of any peer, later at those of the packet's own; between the two, any number of steps
may happen. What it then puts together would be wrong if

* a deny goes (or turns into an allow) and anything else changes: an old allow could be seen beside
  the place where the deny was;
* a deny of any peer comes with an allow of one: the first look precedes the deny, the second
  follows the allow;
* an allow of any peer comes for one of a peer that goes: the reader misses both.

Such a change is built beside the old trie and swapped in by one update; so is a large one, where
that is also quicker, and one of several entries that are not all plain allows and denies of one
rank: a deny that comes first may be outranked by an allow that comes later, and what a proxy must
see may pass beside it.

Why that is enough: while no deny goes, a packet that one denied before is denied throughout, in
whichever look finds it. A packet denied for want of an allow meets an allow that is new only after
the denies of the new state, and sees those too: its own look comes last, and where the allow is its
own, no deny of any peer is new. An allow that goes is looked for before its successor was there
only where the successor is any peer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Final

from attrs import frozen

from axoneme.plugins.policy.entries import (
    ALLOW,
    DEFAULT,
    DENY,
    Entries,
    PolicyKey,
    PolicyValue,
)

_PLAIN: Final = frozenset((DEFAULT, ALLOW, DENY))

SWAP_ABOVE: Final = 2048
"""Changed entries from which a new trie is cheaper than patching the old one."""


@frozen
class Plan:
    """Steps in order; ``swap``: build the whole new state beside and switch over."""

    swap: bool
    first: tuple[tuple[PolicyKey, PolicyValue], ...]
    """Denies to set."""
    then: tuple[tuple[PolicyKey, PolicyValue], ...]
    """Allows to set."""
    last: tuple[PolicyKey, ...]

    @property
    def empty(self) -> bool:
        """Whether nothing is to do."""
        return not (self.first or self.then or self.last)


def difference(
    old: Entries, new: Entries
) -> tuple[dict[PolicyKey, PolicyValue], dict[PolicyKey, PolicyValue]]:
    """What to set and what to remove."""
    upserts = {k: v for k, v in new.items() if old.get(k) != v}
    return upserts, {k: v for k, v in old.items() if k not in new}


def plan(
    old: Entries,
    upserts: Mapping[PolicyKey, PolicyValue],
    deletes: Mapping[PolicyKey, PolicyValue],
    *,
    looks: int = 2,
) -> Plan:
    """The steps of a change of ``old``; ``looks``: how often a reader looks for one packet."""
    denies = tuple((k, v) for k, v in upserts.items() if v.deny)
    allows = tuple((k, v) for k, v in upserts.items() if not v.deny)
    changes = len(upserts) + len(deletes)
    torn = looks > 2 or _tears(old, denies, allows, deletes)
    swap = changes > SWAP_ABOVE or (changes > 1 and torn)
    return Plan(swap, denies, allows, tuple(deletes))


def _tears(
    old: Entries,
    denies: tuple[tuple[PolicyKey, PolicyValue], ...],
    allows: tuple[tuple[PolicyKey, PolicyValue], ...],
    deletes: Mapping[PolicyKey, PolicyValue],
) -> bool:
    """Whether a reader between the steps could see something that is in neither state."""
    changing = chain(denies, allows)
    if not all(_is_plain(v) and _is_plain(old.get(k, v)) for k, v in changing):
        return True
    if not all(map(_is_plain, deletes.values())):
        return True
    if any(v.deny for v in deletes.values()) or any(k in old and old[k].deny for k, _ in allows):
        return True
    coming = [k for k, _ in allows if k not in old]
    closing = any(not k.peer and not (k in old and old[k].deny) for k, _ in denies)
    if closing and any(k.peer for k in coming):
        return True
    return any(k.peer for k in deletes) and any(not k.peer for k in coming)


def _is_plain(value: PolicyValue) -> bool:
    """Whether an entry is one that the argument above is about."""
    return value.precedence in _PLAIN
