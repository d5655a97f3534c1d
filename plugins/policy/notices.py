"""What changes in policy, told as agent events: ``axoneme monitor -t agent``.

Policies that come into force, are refused or go; identities that drop everything because their
policy does not fit, and that are free again.
"""

from __future__ import annotations

from collections.abc import Callable

from axoneme.core.events.model import AgentNotice
from axoneme.core.model.objects import ObjectKey
from axoneme.core.state import Changes
from axoneme.plugins.policy.tables import PolicyRow, PolicyTables, SubjectPolicy

Notify = Callable[..., object]


class PolicyNotices:
    """Subscribes to the plugin's tables. ``notify(notice, text, **facts)`` tells an event."""

    def __init__(self, tables: PolicyTables, notify: Notify) -> None:
        self._notify = notify
        self._locked: set[int] = set()
        tables.policies.subscribe(self._policies_changed)
        tables.entries.subscribe(self._entries_changed)

    def _policies_changed(self, changes: Changes[ObjectKey, PolicyRow]) -> None:
        for key, row in changes.upserted.items():
            facts = {"in-force": row.in_force.value, "rules": row.rules}
            if row.valid:
                self._notify(AgentNotice.POLICY_UPDATED, f"policy updated: {key}", **facts)
            else:
                text = f"policy refused: {row.message}"
                self._notify(AgentNotice.POLICY_UPDATED, text, policy=str(key), **facts)
        for key in changes.deleted:
            self._notify(AgentNotice.POLICY_DELETED, f"policy deleted: {key}")

    def _entries_changed(self, changes: Changes[int, SubjectPolicy]) -> None:
        for identity, row in changes.upserted.items():
            self._note(identity, row.size if row.overflow else 0)
        for identity in changes.deleted:
            self._note(identity, 0)

    def _note(self, identity: int, entries: int) -> None:
        """Tell when an identity is locked (it needs ``entries``), and when it is no more."""
        if entries and identity not in self._locked:
            self._locked.add(identity)
            text = f"policy of identity {identity} does not fit: everything is dropped"
            self._notify(AgentNotice.MESSAGE, text, identity=identity, entries=entries)
        elif not entries and identity in self._locked:
            self._locked.discard(identity)
            text = f"policy of identity {identity} fits again"
            self._notify(AgentNotice.MESSAGE, text, identity=identity)
