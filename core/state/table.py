"""One table: frozen rows under a key, secondary indexes, a revision, watches.

A table lives on one asyncio loop and is never touched from another thread, so it needs no lock.
A write is visible to readers at once and reaches watchers on the loop's next turn, coalesced: a
watcher that is slow sees the last state of each key, not the history. Watchers of the same
table share nothing, so one that never reads costs what changed since it last did, by key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

from axoneme.core.state.changes import Changes

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

Index = Callable[[R], Iterable[Hashable]]

_NOBODY: Final = object()


class Watch(Generic[K, R]):
    """A reader's place in a table's stream of changes; made by :meth:`Table.watch`."""

    def __init__(self, table: Table[K, R]) -> None:
        self._table = table
        self._pending: Changes[K, R] = Changes()
        self._first = True
        self._event = asyncio.Event()
        for key, row in table.items():
            self._pending.note_upsert(key, row, table.revision)
        self._pending.revision = table.revision

    def _deliver(self, changes: Changes[K, R]) -> None:
        self._pending.merge(changes)
        self._event.set()

    async def next(self) -> Changes[K, R]:
        """Wait for changes and take them all.

        The first call returns at once with every row there is, even when there is none.
        """
        if not self._first:
            while not self._pending:
                self._event.clear()
                await self._event.wait()
        self._first = False
        self._event.clear()
        changes, self._pending = self._pending, Changes(revision=self._pending.revision)
        return changes

    def take(self) -> Changes[K, R]:
        """Take what is pending without waiting; may be empty."""
        self._table.flush()
        self._first = False
        changes, self._pending = self._pending, Changes(revision=self._pending.revision)
        return changes

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._table._forget(self)

    def __enter__(self) -> Watch[K, R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Table(Generic[K, R]):
    """Rows of one type. ``key`` derives the primary key, each index a number of values of a row."""

    def __init__(
        self,
        name: str,
        row_type: type[R],
        key: Callable[[R], K],
        indexes: Mapping[str, Index[R]] | None = None,
    ) -> None:
        self.name = name
        self.row_type = row_type
        self.revision = 0
        self.initialized = asyncio.Event()
        self._key = key
        self._rows: dict[K, R] = {}
        self._indexes = dict(indexes or {})
        self._buckets: dict[str, dict[Hashable, Any]] = {n: {} for n in self._indexes}
        """By value the key that has it or, of several, a dictionary of them: most have one."""
        self._watches: list[Watch[K, R]] = []
        self._subscribers: list[Callable[[Changes[K, R]], None]] = []
        self._unsent: Changes[K, R] = Changes()
        self._scheduled = False
        self._depth = 0

    # Reading

    def key_of(self, row: R) -> K:
        """The primary key of a row, whether it is in the table or not."""
        return self._key(row)

    def get(self, key: K) -> R | None:
        """The row under ``key``, or ``None``."""
        return self._rows.get(key)

    def rows(self) -> list[R]:
        """All rows, in order of insertion."""
        return list(self._rows.values())

    def items(self) -> list[tuple[K, R]]:
        """All keys and rows."""
        return list(self._rows.items())

    def find(self, index: str, value: Hashable) -> list[R]:
        """Rows for which ``index`` yields ``value``; ``KeyError`` for an unknown index."""
        there = self._buckets[index].get(value, _NOBODY)
        if there is _NOBODY:
            return []
        return [self._rows[key] for key in (there if type(there) is dict else (there,))]

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[R]:
        return iter(self.rows())

    # Writing

    def upsert(self, row: R, key: K | None = None) -> bool:
        """Put a row in place; ``False`` when an equal one was there already.

        ``key``: :meth:`key_of` the row, if the caller has it and means to keep it.
        """
        if key is None:
            key = self._key(row)
        old = self._rows.get(key)
        if old is not None and old == row:
            return False
        self._rows[key] = row
        for name, index in self._indexes.items():
            values = tuple(index(row))
            if old is not None:
                before = tuple(index(old))
                if before == values:
                    continue
                self._unindex(name, key, before)
            self._index(name, key, values)
        self.revision += 1
        self._unsent.note_upsert(key, row, self.revision)
        self._schedule()
        return True

    def delete(self, key: K) -> bool:
        """Remove a row; ``False`` when there was none."""
        row = self._rows.pop(key, None)
        if row is None:
            return False
        for name, index in self._indexes.items():
            self._unindex(name, key, index(row))
        self.revision += 1
        self._unsent.note_delete(key, row, self.revision)
        self._schedule()
        return True

    def replace(self, rows: Iterable[R], where: Callable[[R], bool] | None = None) -> None:
        """Make ``rows`` the whole content, or the whole of what ``where`` selects."""
        wanted = {self._key(row): row for row in rows}
        with self.transaction():
            for key, row in self.items():
                if key not in wanted and (where is None or where(row)):
                    self.delete(key)
            for row in wanted.values():
                self.upsert(row)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Group writes: watchers see all of them or, until the block ends, none."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._schedule()

    def mark_initialized(self) -> None:
        """Say that the first full content is in; readers may wait for ``initialized``."""
        self.initialized.set()

    # Watching

    def watch(self) -> Watch[K, R]:
        """Start to watch; the first :meth:`Watch.next` yields every row there is."""
        self.flush()
        watch = Watch(self)
        self._watches.append(watch)
        return watch

    def subscribe(self, function: Callable[[Changes[K, R]], None]) -> Callable[[], None]:
        """Call ``function`` with each batch of changes; returns what unsubscribes it.

        One that raises is logged and does not keep the batch from the others.
        """
        self._subscribers.append(function)
        return lambda: self._subscribers.remove(function)

    def flush(self) -> None:
        """Hand pending changes to watchers now instead of on the loop's next turn."""
        if self._depth or not (self._unsent or self._scheduled):
            return
        self._scheduled = False
        changes, self._unsent = self._unsent, Changes(revision=self.revision)
        if not changes:
            return
        for watch in list(self._watches):
            watch._deliver(changes)
        for function in list(self._subscribers):
            try:
                function(changes)
            except Exception:  # the others would never hear of these changes
                log.exception("subscriber failed", extra={"table": self.name})

    def _schedule(self) -> None:
        if self._depth or self._scheduled or not self._unsent:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # before the loop runs: the first watch() or flush() delivers
        self._scheduled = True
        loop.call_soon(self.flush)

    def _forget(self, watch: Watch[K, R]) -> None:
        if watch in self._watches:
            self._watches.remove(watch)

    def _index(self, name: str, key: K, values: Iterable[Hashable]) -> None:
        buckets = self._buckets[name]
        for value in values:
            there = buckets.get(value, _NOBODY)
            if there is _NOBODY:
                buckets[value] = key
            elif type(there) is dict:
                there[key] = None
            elif there != key:
                buckets[value] = {there: None, key: None}

    def _unindex(self, name: str, key: K, values: Iterable[Hashable]) -> None:
        buckets = self._buckets[name]
        for value in values:
            there = buckets.get(value, _NOBODY)
            if type(there) is dict:
                there.pop(key, None)
                if len(there) == 1:
                    (buckets[value],) = there
            elif there == key:
                del buckets[value]
