"""How long policy takes: from the event of an object until the kernel has it, and to compute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from axoneme.core.reconcile import Reconciler


def _nobody(*_: object) -> None:
    """Nobody measures."""


class Timings:
    """Of one manager. Times are in seconds."""

    def __init__(self) -> None:
        self.delay: Callable[[str, float], object] = _nobody
        """Told the kind of an object and how long its change took to the kernel."""
        self.update: Callable[[float], object] = _nobody
        """Told how long one computation took."""
        self._begun: list[tuple[str, float]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._event = 0.0

    def event(self) -> None:
        """Something has come that may change rules."""
        self._event = time.perf_counter()

    def changed(self, kind: str) -> None:
        """It has changed the rules of an object."""
        self._begun.append((kind, self._event))

    def forget(self) -> None:
        """What has come so far is not measured: a start takes as long as the cluster is large."""
        self._begun.clear()

    def published(self, reconciler: Reconciler[Any, Any], revision: int) -> None:
        """All that has come is in the table as of a revision."""
        if self._begun:
            begun, self._begun = self._begun, []
            task = asyncio.get_running_loop().create_task(self._follow(begun, reconciler, revision))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _follow(
        self, begun: list[tuple[str, float]], reconciler: Reconciler[Any, Any], revision: int
    ) -> None:
        await reconciler.wait_for(revision)
        now = time.perf_counter()
        for kind, event in begun:
            self.delay(kind, now - event)
