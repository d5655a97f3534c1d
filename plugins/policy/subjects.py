"""What the engine knows: settings, rules in force, subjects, and how they changed."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, define, frozen

from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import Rule
from axoneme.plugins.policy.entries import PolicyKey, PolicyValue
from axoneme.plugins.policy.l4 import L4
from axoneme.plugins.policy.terms import NamedPorts, Term

Terms = dict[int, dict[Term, None]]
"""Terms by handle of the peer selector; 0 is anybody."""


@frozen
class Settings:
    """What the configuration says: ``mode`` is default, always or never."""

    mode: str = "default"
    allow_localhost: bool = True


@define(eq=False)
class Compiled:
    """A rule in force."""

    key: ObjectKey
    rule: Rule
    cookie: int
    subject: int  # handle of the subject selector
    terms: list[tuple[Term, tuple[int, ...] | None]]  # with the handles of its peers


Decision = list[tuple[L4, PolicyValue]]
"""Entries of one peer."""
Changing = tuple[dict[PolicyKey, PolicyValue], dict[PolicyKey, PolicyValue]]


@define(eq=False)
class Subject:
    """What is known of one subject identity. Terms by handle of the peer selector, 0 anybody."""

    entries: dict[PolicyKey, PolicyValue] = Factory(dict)
    by_peer: dict[tuple[int, int], list[PolicyKey]] = Factory(dict)
    terms: tuple[Terms, Terms] = Factory(lambda: ({}, {}))
    rules: set[int] = Factory(set)  # cookies
    enforcing: list[int] = Factory(lambda: [0, 0])  # rules that ask for default deny
    selective: list[int] = Factory(lambda: [0, 0])  # terms that deny some peers, not anybody
    ports: tuple[NamedPorts, NamedPorts] = ({}, {})
    dirty: tuple[set[int], set[int]] = Factory(lambda: (set(), set()))
    fresh: bool = True

    def replace(
        self,
        place: tuple[int, int],
        wanted: Decision,
        delta: Changing,
    ) -> None:
        """Put the entries of one (direction, peer) in place and note the difference."""
        upserts, deletes = delta
        direction, peer = place
        entries = self.entries
        old = self.by_peer.pop(place, ())
        keys = [PolicyKey(peer, direction, *l4) for l4, _ in wanted]
        if old and old != keys:
            for key in set(old).difference(keys):
                deletes[key] = entries.pop(key)
        for key, (_, value) in zip(keys, wanted, strict=True):
            if entries.get(key) != value:
                upserts[key] = value
                entries[key] = value
        if keys:
            self.by_peer[place] = keys


@frozen
class Delta:
    """How one subject changed since the last flush; ``gone`` when it is no subject any more."""

    upserts: Mapping[PolicyKey, PolicyValue] = Factory(dict)
    deletes: Mapping[PolicyKey, PolicyValue] = Factory(dict)
    gone: bool = False


@frozen
class RuleChange:
    """Cookies of rules that went and came; a cookie may be in both."""

    removed: list[int] = Factory(list)
    added: dict[int, Rule] = Factory(dict)

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)
