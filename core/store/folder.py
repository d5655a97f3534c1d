"""The store over a folder of manifests, for one machine or a fleet without Kubernetes.

Verbs run in one thread, so they never stall the loop and keep their order. Watching is inotify:
one instance per store, one watch per kind's folder. When the kernel's queue overflows the
folder is read again as a whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from asyncinotify import Inotify, Mask

from axoneme.core.errors import AxonemeError, NotFoundError, StoreError
from axoneme.core.model.objects import EMPTY, ClusterObject, ObjectKey
from axoneme.core.store.engine import SUFFIX, FolderEngine
from axoneme.core.store.fields import Selection
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.store.model import StoreEvent

log = logging.getLogger(__name__)

T = TypeVar("T")

_MASK = Mask.MOVED_TO | Mask.CLOSE_WRITE | Mask.DELETE | Mask.MOVED_FROM
_RESCAN = ""
"""In a watcher's queue: read the whole folder again."""


class FolderStore:
    """:class:`axoneme.core.store.model.Store` over a folder."""

    def __init__(self, root: Path, kinds: KindRegistry | None = None) -> None:
        self.engine = FolderEngine(root, kinds)
        self.kinds = self.engine.kinds
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="axo-store")
        self._inotify: Inotify | None = None
        self._pump: asyncio.Task[None] | None = None
        self._queues: dict[str, list[asyncio.Queue[str]]] = {}

    async def list(self, kind: str) -> list[ClusterObject]:
        """Every good object of a kind."""
        return await self._do(self.engine.list, kind)

    async def each(self, kind: str) -> AsyncIterator[ClusterObject]:
        """The same one by one."""
        for obj in await self.list(kind):
            yield obj

    async def get(self, key: ObjectKey) -> ClusterObject:
        """One object."""
        return await self._do(self.engine.read, key)

    async def create(self, body: Mapping[str, Any]) -> ClusterObject:
        """Create, exclusively."""
        return await self._do(self.engine.create, body)

    async def update(self, body: Mapping[str, Any]) -> ClusterObject:
        """Replace, with conflict detection."""
        return await self._do(self.engine.update, body)

    async def apply(self, body: Mapping[str, Any]) -> ClusterObject:
        """Create or replace all but the status."""
        return await self._do(self.engine.apply, body)

    async def update_status(
        self, key: ObjectKey, status: Mapping[str, Any], version: str = ""
    ) -> ClusterObject:
        """Replace the status, with conflict detection when a version is given."""
        return await self._do(self.engine.update_status, key, status, version)

    async def patch(
        self, key: ObjectKey, changes: Mapping[str, Any], version: str = ""
    ) -> ClusterObject:
        """Change some fields, with conflict detection when a version is given."""
        return await self._do(self.engine.patch, key, changes, version)

    async def delete(self, key: ObjectKey, version: str = "", *, graceful: bool = False) -> None:
        """Delete, with conflict detection when a version is given; here nothing needs grace."""
        await self._do(self.engine.delete, key, version)

    async def acquire_lease(self, name: str, holder: str, duration: float) -> bool:
        """Take or renew a lease."""
        return await self._do(self.engine.acquire_lease, name, holder, duration)

    def about(self) -> str:
        """The folder."""
        return f"folder {self.engine.root}"

    def away(self) -> str:
        """A folder is always there."""
        return ""

    def recalled(self) -> tuple[str, ...]:
        """What is watched is what there is."""
        return ()

    def problems(self) -> tuple[str, ...]:
        """A folder is always there, or its verbs fail."""
        return ()

    def calls(self) -> Mapping[tuple[str, str, str], int]:
        """None."""
        return {}

    async def prepare(self) -> None:
        """A folder takes every kind."""

    async def close(self) -> None:
        """Stop watching and let go of the thread."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        if self._inotify is not None:
            self._inotify.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def watch(
        self,
        kind: str,
        name: str = "",
        namespace: str = "",
        fields: Mapping[str, str] = EMPTY,
    ) -> AsyncIterator[StoreEvent]:
        """What there is, ``synced``, then changes."""
        selection = Selection(fields)
        async for event in self._watch(kind):
            if event.key is None or (
                name in ("", event.key.name) and namespace in ("", event.key.namespace)
            ):
                chosen = selection.pass_on(event)
                if chosen is not None:
                    yield chosen

    async def _watch(self, kind: str) -> AsyncIterator[StoreEvent]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listen(kind, queue)
        known: dict[ObjectKey, str] = {}
        try:
            for event in await self._scan(kind, known):
                yield event
            yield StoreEvent("synced")
            while True:
                names = {await queue.get()}
                while not queue.empty():
                    names.add(queue.get_nowait())
                if _RESCAN in names:
                    events = await self._scan(kind, known)
                else:
                    keys = [self.engine.key_of_file(kind, n) for n in sorted(names)]
                    events = await self._do(self._inspect, keys, known)
                for event in events:
                    yield event
        finally:
            self._queues[kind].remove(queue)

    # Blocking, in the store's thread

    def _inspect(
        self, keys: Sequence[ObjectKey], known: dict[ObjectKey, str]
    ) -> Sequence[StoreEvent]:
        """Compare files with what was delivered: ``known`` maps keys to versions, ``!`` if bad."""
        events = []
        for key in keys:
            try:
                obj = self.engine.read(key)
            except NotFoundError:
                if known.pop(key, None) is not None:
                    events.append(StoreEvent("deleted", key))
            except AxonemeError as error:
                if known.get(key) != f"!{error}":
                    known[key] = f"!{error}"
                    events.append(StoreEvent("invalid", key, message=str(error)))
            else:
                old = known.get(key)
                if old != obj.resource_version:
                    known[key] = obj.resource_version
                    events.append(StoreEvent("added" if old is None else "modified", key, obj))
        return events

    async def _scan(self, kind: str, known: dict[ObjectKey, str]) -> Sequence[StoreEvent]:
        def scan() -> Sequence[StoreEvent]:
            there = [self.engine.key_of_file(kind, f) for f in self.engine.files(kind)]
            return self._inspect([*dict.fromkeys([*there, *known])], known)

        return await self._do(scan)

    async def _do(self, function: Callable[..., T], *args: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
        except OSError as error:
            raise StoreError(f"{self.engine.root}: {error}") from error

    # inotify

    def _listen(self, kind: str, queue: asyncio.Queue[str]) -> None:
        folder = self.engine.folder(kind)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._inotify is None:
                self._inotify = Inotify()
                self._pump = asyncio.create_task(self._follow(self._inotify))
            if kind not in self._queues:
                self._inotify.add_watch(folder, _MASK)
        except OSError as error:
            raise StoreError(
                f"cannot watch {folder}: {error.strerror}",
                hint="raise fs.inotify.max_user_instances or max_user_watches",
            ) from error
        self._queues.setdefault(kind, []).append(queue)

    async def _follow(self, inotify: Inotify) -> None:
        async for event in inotify:
            if event.mask & Mask.Q_OVERFLOW:
                log.warning("inotify queue overflowed, reading everything again")
                for queues in self._queues.values():
                    for queue in queues:
                        queue.put_nowait(_RESCAN)
                continue
            if event.watch is None or event.name is None:
                continue
            name = str(event.name)
            if name.startswith(".") or not name.endswith(SUFFIX):
                continue
            for queue in self._queues.get(event.watch.path.name, ()):
                queue.put_nowait(name)
