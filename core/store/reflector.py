"""Keep a table equal to the objects of a kind.

The decoder turns an object into a row, or into ``None`` to leave it out. What it refuses is
logged and reported by name, and the row of the last good version stays: one bad object never
stops the others (CVE-2023-41332).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from axoneme.core.errors import AxonemeError, InvalidObjectError
from axoneme.core.model.objects import EMPTY, ClusterObject, ObjectKey
from axoneme.core.state.table import Table
from axoneme.core.store.model import Store, StoreEvent

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Versions(Protocol):
    """Where the last good version of each object is kept over a restart."""

    def remember(self, obj: ClusterObject) -> None:
        """A version that was read."""
        ...

    def recall(self, key: ObjectKey) -> ClusterObject | None:
        """The last one of an object."""
        ...

    def forget(self, key: ObjectKey) -> None:
        """The object is deleted."""
        ...

    def sweep(self, present: Iterable[ObjectKey]) -> None:
        """All others are deleted."""
        ...


class Reflector(Generic[K, R]):
    """Follow one kind into one table. ``errors`` holds the objects whose text is bad now.

    With ``versions`` an object that is bad when the process starts has its last good version too.
    """

    def __init__(
        self,
        store: Store,
        kind: str,
        table: Table[K, R],
        decode: Callable[[ClusterObject], R | None],
        *,
        on_error: Callable[[ObjectKey, str], None] | None = None,
        versions: Versions | None = None,
        name: str = "",
        namespace: str = "",
        fields: Mapping[str, str] = EMPTY,
    ) -> None:
        """``name``, ``namespace`` and ``fields`` choose objects, as in :meth:`Store.watch`."""
        self.store = store
        self.kind = kind
        self.table = table
        self.decode = decode
        self.errors: dict[ObjectKey, str] = {}
        self._scope = (name, namespace, fields)
        self._on_error = on_error
        self._versions = versions
        self._keys: dict[ObjectKey, K] = {}

    async def run(self) -> None:
        """Follow for ever; the table is marked initialized once all there was is in."""
        seen: set[ObjectKey] | None = set()
        async for event in self.store.watch(self.kind, *self._scope):
            if event.type == "synced":
                for key in [k for k in self._keys if seen is not None and k not in seen]:
                    self._remove(key)
                if self._versions is not None and seen is not None:
                    self._versions.sweep(seen)
                seen = None
                self.table.mark_initialized()
                continue
            if seen is not None and event.key is not None:
                seen.add(event.key)
            self._take(event)

    def _take(self, event: StoreEvent) -> None:
        assert event.key is not None
        if event.type == "deleted":
            self._remove(event.key)
            if self._versions is not None:
                self._versions.forget(event.key)
        elif event.type == "invalid" or event.obj is None:
            self._refuse(event.key, event.message)
        else:
            self._put(event.key, event.obj)

    def _put(self, key: ObjectKey, obj: ClusterObject) -> None:
        try:
            row = self.decode(obj)
        except AxonemeError as error:
            self._refuse(key, str(error))
            return
        except Exception as error:  # a decoder must not die of what a user wrote
            log.exception("decoder failed", extra={"object": str(key)})
            self._refuse(key, str(InvalidObjectError(str(key), "", f"cannot be read: {error!r}")))
            return
        self.errors.pop(key, None)
        if self._versions is not None:
            self._versions.remember(obj)
        self._place(key, row)

    def _place(self, key: ObjectKey, row: R | None) -> None:
        if row is None:
            self._remove(key)
            return
        table_key: Any = self.table.key_of(row)
        old = self._keys.get(key)
        if old == table_key:
            self.table.upsert(row, old)
            return
        if old is None:
            self.table.upsert(row, table_key)
        else:
            with self.table.transaction():
                self.table.delete(old)
                self.table.upsert(row, table_key)
        self._keys[key] = table_key  # the one that the table has: there are many

    def _remove(self, key: ObjectKey) -> None:
        self.errors.pop(key, None)
        table_key = self._keys.pop(key, None)
        if table_key is not None:
            self.table.delete(table_key)

    def _recall(self, key: ObjectKey) -> None:
        """Put the last good version of an object in place that has none in memory."""
        kept = self._versions.recall(key) if self._versions is not None else None
        if kept is None or key in self._keys:
            return
        try:
            self._place(key, self.decode(kept))
        except Exception as error:  # what an older release took may be refused by this one
            log.warning(
                "last good version not readable", extra={"object": str(key), "error": str(error)}
            )

    def _refuse(self, key: ObjectKey, message: str) -> None:
        self._recall(key)
        if self.errors.get(key) == message:
            return
        self.errors[key] = message
        log.warning(
            "object refused, last good version kept", extra={"object": str(key), "error": message}
        )
        if self._on_error is not None:
            self._on_error(key, message)
