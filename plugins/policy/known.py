"""Who is known: the identities whose entries every subject has, as row 0 of ``policy_entries``.

An identity that policy has not met yet has no entries, so a lookup finds those for anybody alone.
Where a subject denies some peers and allows anybody, that would let a denied peer pass until its
labels are read. Such a subject's entries for anybody hold for known peers only (``known_only``).

A mark comes after the entries of all subjects, and goes before them.
"""

from __future__ import annotations

from typing import Final

from axoneme.plugins.policy.entries import DEFAULT, PolicyKey, PolicyValue
from axoneme.plugins.policy.tables import KNOWN, SubjectPolicy

_MARK: Final = PolicyValue(DEFAULT, False, 0, 0)


class KnownPeers:
    """Collects marks and makes the row that has them."""

    def __init__(self) -> None:
        self._marks: dict[PolicyKey, PolicyValue] = {}
        self._changes: dict[PolicyKey, bool] = {}
        self._revision = 0

    def add(self, identity: int) -> None:
        """Policy has met an identity."""
        self._changes[_key(identity)] = True

    def remove(self, identity: int) -> None:
        """An identity is gone."""
        self._changes[_key(identity)] = False

    def take(self, *, complete: bool) -> SubjectPolicy | None:
        """The row, if it has changed. New marks wait until the entries are ``complete``."""
        upserts: dict[PolicyKey, PolicyValue] = {}
        deletes: dict[PolicyKey, PolicyValue] = {}
        for key, known in list(self._changes.items()):
            if known and not complete:
                continue
            del self._changes[key]
            if known and key not in self._marks:
                upserts[key] = self._marks[key] = _MARK
            elif not known and key in self._marks:
                deletes[key] = self._marks.pop(key)
        if not upserts and not deletes:
            return None
        base, self._revision = self._revision, self._revision + 1
        entries = dict(self._marks)
        return SubjectPolicy(
            KNOWN, self._revision, False, False, len(entries), False,
            entries, base, upserts, deletes,
        )  # fmt: skip


def _key(identity: int) -> PolicyKey:
    return PolicyKey(identity, 0, 0, 0, 0)
