"""A second watcher of the folder store: when could anybody know of a change?"""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import bisect_left
from contextlib import suppress
from pathlib import Path

from axoneme.core.store.folder import FolderStore


class Watcher:
    """Notes the time of each event of one kind, in a thread with a loop of its own."""

    def __init__(self, root: Path, kind: str) -> None:
        self._root, self._kind = root, kind
        self._times: dict[str, list[int]] = {}
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
        self._loop.close()

    def first(self, name: str, after: int) -> int:
        """When an object's first event after a time came; ns of the monotonic clock."""
        times = self._times.get(name, [])
        at = bisect_left(times, after)
        if at == len(times):
            raise RuntimeError(f"the store told nothing more of {name}")
        return times[at]

    def _run(self) -> None:
        self._task = self._loop.create_task(self._follow())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)

    async def _follow(self) -> None:
        store = FolderStore(self._root)
        try:
            async for event in store.watch(self._kind):
                if event.type == "synced":
                    self._ready.set()
                elif event.key is not None:
                    self._times.setdefault(event.key.name, []).append(time.monotonic_ns())
        finally:
            await store.close()
