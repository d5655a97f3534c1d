"""Follow a table and keep a target equal to it.

Incremental at once, a full compare at start and every few minutes with jitter, retry with
back-off per row. Changes that arrive while the target works are coalesced into the next apply,
so a burst costs one call. The target runs in a thread of its own: the loop never blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from axoneme.core.reconcile.status import RowStatus
from axoneme.core.reconcile.target import Target
from axoneme.core.state.changes import Changes
from axoneme.core.state.table import Table

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

FIRST_RETRY = 0.1
LAST_RETRY = 60.0


def backoff(retries: int) -> float:
    """Seconds to wait after ``retries`` failures in a row: doubling, capped, with jitter."""
    return min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(retries - 1, 16)) * random.uniform(0.8, 1.2)


class Reconciler(Generic[K, R]):
    """Run one target for one table. ``full_interval`` is in seconds."""

    def __init__(
        self, name: str, table: Table[K, R], target: Target[K, R], *, full_interval: float = 300.0
    ) -> None:
        self.name = name
        self.table = table
        self.target = target
        self.full_interval = full_interval
        self.statuses: dict[K, RowStatus] = {}
        self.applied = -1
        """Revision of the table up to which everything has been applied or has failed."""
        self.runs = 0
        self._failed: dict[K, tuple[float, R | None]] = {}
        self._waiters: list[tuple[int, asyncio.Future[dict[K, str]]]] = []
        self._full = True
        self._failing: dict[K, str] = {}
        self._sleeper: asyncio.Future[None] | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"axo-{name}"[:15])

    # What others ask

    @property
    def errors(self) -> dict[K, str]:
        """Rows whose last attempt failed, with the reason."""
        return dict(self._failing)

    def request_full(self) -> None:
        """Ask for a full compare as soon as the target is free."""
        self._full = True
        self._rouse()

    async def wait_for(self, revision: int) -> dict[K, str]:
        """Wait until the table's changes up to ``revision`` are applied; return what failed."""
        if self.applied >= revision:
            return self.errors
        future: asyncio.Future[dict[K, str]] = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, future))
        return await future

    async def sync(self) -> dict[K, str]:
        """Wait until the table as it is now is applied; return what failed."""
        return await self.wait_for(self.table.revision)

    # The loop

    async def run(self) -> None:
        """Run until cancelled. An exception of the target as a whole is retried, never fatal."""
        loop = asyncio.get_running_loop()
        watch = self.table.watch()
        unsubscribe = self.table.subscribe(self._rouse)
        next_full = 0.0
        failures = 0
        try:
            while True:
                await self._pause(next_full)
                changes = watch.take()
                full = self._full or loop.time() >= next_full
                try:
                    if full:
                        self._full = False
                        await self._run_full()
                        next_full = loop.time() + self.full_interval * random.uniform(0.9, 1.1)
                    else:
                        await self._run_changes(changes)
                    failures = 0
                except Exception:  # the target itself broke: say so, wait, compare everything
                    failures += 1
                    delay = backoff(failures)
                    log.exception("reconciler failed", extra={"reconciler": self.name})
                    await asyncio.sleep(delay)
                    self._full = True
                    continue
                self._wake()
        finally:
            unsubscribe()
            watch.close()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _pause(self, next_full: float) -> None:
        """Sleep until there is something to do."""
        loop = asyncio.get_running_loop()
        if self._full or self.table.revision > self.applied:
            await asyncio.sleep(0)
            return
        due = min([next_full, *(when for when, _ in self._failed.values())])
        self._sleeper = loop.create_future()
        timer = loop.call_at(due, self._rouse)
        try:
            await self._sleeper
        finally:
            timer.cancel()
            self._sleeper = None

    def _rouse(self, _: object = None) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def _run_full(self) -> None:
        desired = dict(self.table.items())
        revision = self.table.revision
        failed = await self._in_thread(self.target.resync, desired)
        for key in [k for k in self.statuses if k not in desired]:
            del self.statuses[key]
        self._failed = {}
        self._failing = {}
        self._note(Changes(upserted=desired, revision=revision), failed)
        log.debug(
            "full pass done",
            extra={"reconciler": self.name, "rows": len(desired), "failed": len(failed)},
        )

    async def _run_changes(self, changes: Changes[K, R]) -> None:
        revision = max(changes.revision, self.table.revision if not changes else 0)
        upserts, deletes = dict(changes.upserted), dict(changes.deleted)
        self._add_retries(upserts, deletes)
        if not upserts and not deletes:
            self.applied = max(self.applied, revision)
            return
        if len(upserts) + len(deletes) <= getattr(self.target, "at_once", 0):
            self.runs += 1
            failed = self.target.apply(upserts, deletes)
        else:
            failed = await self._in_thread(self.target.apply, upserts, deletes)
        self._note(Changes(upserts, deletes, revision), failed)
        log.debug(
            "change applied",
            extra={
                "reconciler": self.name,
                "upserts": len(upserts),
                "deletes": len(deletes),
                "failed": len(failed),
            },
        )

    def _add_retries(self, upserts: dict[K, R], deletes: dict[K, R]) -> None:
        now = asyncio.get_running_loop().time()
        for key, (when, row) in list(self._failed.items()):
            if when > now or key in upserts or key in deletes:
                continue
            current = self.table.get(key)
            if current is not None:
                upserts[key] = current
            elif row is not None:
                deletes[key] = row

    async def _in_thread(self, function, *args) -> Mapping[K, Exception]:  # type: ignore[no-untyped-def]
        self.runs += 1
        loop = asyncio.get_running_loop()
        result: Mapping[K, Exception] = await loop.run_in_executor(self._executor, function, *args)
        return result

    def _note(self, changes: Changes[K, R], failed: Mapping[K, Exception]) -> None:
        now = asyncio.get_running_loop().time()
        for mapping, removed in ((changes.upserted, False), (changes.deleted, True)):
            for key, row in mapping.items():
                error = failed.get(key)
                if error is None:
                    self._failed.pop(key, None)
                    self._failing.pop(key, None)
                    if removed:
                        self.statuses.pop(key, None)
                    else:
                        self.statuses[key] = RowStatus("done", revision=changes.revision)
                    continue
                old = self.statuses.get(key)
                retries = (old.retries if old else 0) + 1
                self._failing[key] = str(error)
                self.statuses[key] = RowStatus("error", str(error), retries, changes.revision)
                self._failed[key] = (now + backoff(retries), row if removed else None)
                log.warning(
                    "row failed",
                    extra={"reconciler": self.name, "row": str(key), "error": str(error)},
                )
        self.applied = max(self.applied, changes.revision)

    def _wake(self) -> None:
        waiting, self._waiters = self._waiters, []
        errors = self.errors
        for revision, future in waiting:
            if future.done():
                continue
            if self.applied >= revision:
                future.set_result(errors)
            else:
                self._waiters.append((revision, future))

    def __repr__(self) -> str:
        with contextlib.suppress(AttributeError):
            return f"<Reconciler {self.name} applied={self.applied} errors={len(self.errors)}>"
        return "<Reconciler>"
