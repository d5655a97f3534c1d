"""How to get a trie from one state to another without a moment that is wrong.

A packet denied in both states must never pass between them, one allowed in both must never drop.
In place, denies are set first, then allows, then what is gone is removed. That is safe unless a
deny goes (or turns into an allow) while an allow goes too: an old allow could then be seen beside
a new one, with the deny that hid it gone already. Such a change is built beside the old trie and
swapped in by one update; so is a large one, where that is also quicker.

Why that is enough: set aside the lookup of the other trie. While no deny goes, every packet denied
before is denied throughout, by the same entry or for want of an allow. While no allow goes, the
allows present are those of the new state, and its denies were all set before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from axoneme.plugins.policy.entries import Entries, PolicyKey, PolicyValue

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
    old: Entries, upserts: Mapping[PolicyKey, PolicyValue], deletes: Mapping[PolicyKey, PolicyValue]
) -> Plan:
    """The steps of a change of ``old``."""
    denies = tuple((k, v) for k, v in upserts.items() if v.deny)
    allows = tuple((k, v) for k, v in upserts.items() if not v.deny)
    deny_goes = any(v.deny for v in deletes.values()) or any(
        k in old and old[k].deny for k, _ in allows
    )
    allow_goes = any(not v.deny for v in deletes.values())
    swap = (deny_goes and allow_goes) or len(upserts) + len(deletes) > SWAP_ABOVE
    return Plan(swap, denies, allows, tuple(deletes))
