"""The plugin's rows: policies, rules, selectors, and the entries of each subject identity."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from attrs import Factory, field, frozen

from axoneme.core.model.objects import ObjectKey
from axoneme.core.state import Table, TableRegistry
from axoneme.plugins.policy.entries import Entries, PolicyKey, PolicyValue

KNOWN: Final = 0
"""Key of the row that is no subject: its peers are the identities that policy has met."""


class InForce(StrEnum):
    """Which rules of an object apply."""

    CURRENT = "current"
    LAST_GOOD = "last good"
    LOCKED = "locked"
    """Valid, not enforceable, and no earlier version known: its subjects are default-deny."""
    NONE = "none"


@frozen
class PolicyRow:
    """Row of table ``policies``. Key: ``key``."""

    key: ObjectKey
    valid: bool
    in_force: InForce
    rules: int
    message: str = ""


@frozen
class RuleRow:
    """Row of table ``rules``. Key: ``cookie``, the number that entries and events carry."""

    cookie: int
    origin: str
    direction: str
    verdict: str
    subject: str
    peers: str
    ports: str


@frozen
class SelectorRow:
    """Row of table ``selectors``. Key: ``handle``."""

    handle: int
    selector: str
    users: int
    matches: int


@frozen
class SubjectPolicy:
    """Row of table ``policy_entries``. Key: ``identity``.

    Equal rows have equal revisions: comparing thousands of entries on each write would cost more
    than the change. ``delta`` leads here from the row of revision ``base``, so that a target
    that holds that one need not compare either.
    """

    identity: int
    revision: int
    ingress_enforced: bool
    egress_enforced: bool
    size: int
    """Entries that the policy needs; ``entries`` is empty when they do not fit."""
    overflow: bool
    entries: Entries = field(eq=False, repr=False)
    base: int = field(default=0, eq=False)
    upserts: Mapping[PolicyKey, PolicyValue] = field(default=Factory(dict), eq=False, repr=False)
    deletes: Mapping[PolicyKey, PolicyValue] = field(default=Factory(dict), eq=False, repr=False)


@frozen
class PolicyTables:
    """The plugin's tables."""

    policies: Table[ObjectKey, PolicyRow]
    rules: Table[int, RuleRow]
    selectors: Table[int, SelectorRow]
    entries: Table[int, SubjectPolicy]

    @classmethod
    def create(cls, tables: TableRegistry) -> PolicyTables:
        """Make and register them."""
        return cls(
            tables.create("policies", PolicyRow, key=lambda r: r.key),
            tables.create("rules", RuleRow, key=lambda r: r.cookie),
            tables.create("selectors", SelectorRow, key=lambda r: r.handle),
            tables.create("policy_entries", SubjectPolicy, key=lambda r: r.identity),
        )

    def subjects(self) -> list[SubjectPolicy]:
        """The rows of subjects."""
        return [row for row in self.entries if row.identity != KNOWN]
