"""A set of changes to a table, coalesced by key."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from attrs import Factory, define

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


@define
class Changes(Generic[K, R]):
    """The last state of every key that changed up to ``revision``.

    A key stands in one of the two mappings, never in both. ``deleted`` holds the last row, so
    that a reader can tell what went away.
    """

    upserted: dict[K, R] = Factory(dict)
    deleted: dict[K, R] = Factory(dict)
    revision: int = 0

    def __bool__(self) -> bool:
        return bool(self.upserted or self.deleted)

    def note_upsert(self, key: K, row: R, revision: int) -> None:
        """Remember that ``key`` now holds ``row``."""
        self.deleted.pop(key, None)
        self.upserted[key] = row
        self.revision = revision

    def note_delete(self, key: K, row: R, revision: int) -> None:
        """Remember that ``key`` is gone; a reader that never saw it learns so all the same."""
        self.upserted.pop(key, None)
        self.deleted[key] = row
        self.revision = revision

    def merge(self, other: Changes[K, R]) -> None:
        """Take over what happened later."""
        for key, row in other.upserted.items():
            self.note_upsert(key, row, other.revision)
        for key, row in other.deleted.items():
            self.note_delete(key, row, other.revision)
        self.revision = max(self.revision, other.revision)
