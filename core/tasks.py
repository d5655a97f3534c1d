"""Background tasks: supervised, restarted with back-off, never silently dead.

A task that raises is started again after a delay that doubles up to a minute; what went wrong is
kept for the status. A task that returns is done and is not started again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from attrs import define

from axoneme.core.errors import AxonemeError, FatalError

log = logging.getLogger(__name__)

FIRST_DELAY = 0.2
LAST_DELAY = 60.0
HEALTHY_AFTER = 60.0
"""Seconds after which a run counts as good and the back-off starts anew."""


Work = Callable[[], Awaitable[None]]


@define
class TaskState:
    """What the status shows of one task: ``running``, ``waiting`` to be restarted, or ``done``."""

    name: str
    state: str = "running"
    restarts: int = 0
    error: str = ""
    failed_at: float = 0.0
    """Unix time of the last failure, 0 if never."""


class TaskGroupRunner:
    """All background tasks of a process. ``fatal`` holds what must end the process."""

    def __init__(self) -> None:
        self.states: dict[str, TaskState] = {}
        self.fatal: asyncio.Future[BaseException] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, Work] = {}
        self._started = False

    def spawn(self, name: str, function: Work) -> None:
        """Run ``function`` under supervision; names are unique while the task lives.

        Before :meth:`start` (a plugin's set-up, when no loop runs yet) the task only waits.
        """
        running = self._tasks.get(name)
        if name in self._waiting or (running is not None and not running.done()):
            raise AxonemeError(f"task {name} runs already")
        self.states[name] = TaskState(name)
        if not self._started:
            self._waiting[name] = function
            return
        loop = asyncio.get_running_loop()
        self._tasks[name] = loop.create_task(self._supervise(name, function), name=name)

    def start(self) -> None:
        """Start what was spawned before; on the loop."""
        self._started = True
        waiting, self._waiting = self._waiting, {}
        for name, function in waiting.items():
            self.spawn(name, function)

    def failing(self) -> list[TaskState]:
        """Tasks that failed and are waiting, or have failed within the last minute."""
        recent = time.time() - HEALTHY_AFTER
        return [s for s in self.states.values() if s.error and s.failed_at > recent]

    async def stop(self) -> None:
        """Cancel every task and wait until all are gone."""
        self._waiting.clear()
        tasks = [t for t in self._tasks.values() if not t.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def _supervise(self, name: str, function: Work) -> None:
        state = self.states[name]
        delay = FIRST_DELAY
        while True:
            started = time.monotonic()
            try:
                await function()
                state.state = "done"
                return
            except asyncio.CancelledError:
                raise
            except FatalError as error:
                self._give_up(state, error)
                return
            except Exception as error:
                if time.monotonic() - started > HEALTHY_AFTER:
                    delay = FIRST_DELAY
                state.state, state.error, state.failed_at = "waiting", str(error), time.time()
                state.restarts += 1
                log.exception("task failed", extra={"task": name, "retry_seconds": delay})
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))
            delay = min(LAST_DELAY, delay * 2)
            state.state = "running"

    def _give_up(self, state: TaskState, error: BaseException) -> None:
        state.state, state.error, state.failed_at = "failed", str(error), time.time()
        log.error("task failed for good", extra={"task": state.name, "error": str(error)})
        if self.fatal is not None and not self.fatal.done():
            self.fatal.set_result(error)
