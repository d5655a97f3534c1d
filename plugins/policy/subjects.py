"""What the engine knows: settings, rules in force, subjects, and how they changed."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, define, frozen

from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import Rule
from axoneme.plugins.policy.entries import PolicyKey, PolicyValue
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


Changing = tuple[dict[PolicyKey, PolicyValue], dict[PolicyKey, PolicyValue]]


@define(eq=False)
class Subject:
    """What is known of one subject identity. Terms by handle of the peer selector, 0 anybody."""

    entries: dict[PolicyKey, PolicyValue] = Factory(dict)
    by_peer: dict[tuple[int, int], list[PolicyKey]] = Factory(dict)
    terms: tuple[Terms, Terms] = Factory(lambda: ({}, {}))
    rules: set[int] = Factory(set)  # cookies
    enforcing: list[int] = Factory(lambda: [0, 0])  # rules that ask for default deny
    ports: tuple[NamedPorts, NamedPorts] = ({}, {})
    dirty: tuple[set[int], set[int]] = Factory(lambda: (set(), set()))
    fresh: bool = True


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
