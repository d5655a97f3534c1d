"""Keeps the node's network as everybody together wants it.

A pass runs when somebody asks for it, when the kernel reports that something of ours went away,
after a failure (with back-off), and every few minutes. Requests coalesce: a burst costs one pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from axoneme.core.errors import AxonemeError
from axoneme.core.model.network import NetworkState
from axoneme.core.netlink.api import Netlink
from axoneme.core.netlink.notices import NoticeReader
from axoneme.core.netlink.target import NetworkTarget, PassResult
from axoneme.core.reconcile.reconciler import backoff
from axoneme.core.reconcile.status import RowStatus

log = logging.getLogger(__name__)

SETTLE: Final = 0.1
"""Seconds that a request waits for others. What cannot wait asks netlink itself, or resyncs."""


class NetworkReconciler:
    """``collect`` runs on the loop and must not block; everything else is in a thread."""

    def __init__(
        self,
        netlink: Netlink,
        collect: Callable[[], NetworkState],
        *,
        full_interval: float = 300.0,
        target: NetworkTarget | None = None,
    ) -> None:
        self.netlink = netlink
        self.collect = collect
        self.full_interval = full_interval
        self.target = target or NetworkTarget(netlink)
        self.statuses: dict[str, RowStatus] = {}
        """By name: ``route 10.0.1.0/24``, ``link axo_vxlan`` …"""
        self._asked = asyncio.Event()
        self._one = asyncio.Lock()
        self._waiters: list[asyncio.Future[dict[str, str]]] = []
        self._failures = 0
        self._running = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="axo-network")

    @property
    def errors(self) -> dict[str, str]:
        """What is not as it should be, and why."""
        return {k: x.error for k, x in self.statuses.items() if x.state == "error"}

    def request(self) -> None:
        """Ask for a pass soon; on the loop's thread."""
        self._asked.set()

    async def resync(self) -> dict[str, str]:
        """Wait for a pass that begins from now on; what failed in it.

        Works without :meth:`run` too: then the pass runs here.
        """
        future: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        self._asked.set()
        if not self._running:
            async with self._one:
                await self._pass()
        return await future

    async def run(self) -> None:
        """Run until cancelled."""
        self._running = True
        reader = await asyncio.get_running_loop().run_in_executor(
            self._executor, NoticeReader, self.netlink
        )
        reader.start(asyncio.get_running_loop(), self.request)
        self._asked.set()
        try:
            delay = 0.0
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):  # wait_for may lose a cancellation
                        await self._asked.wait()
                if not self._waiters:
                    await asyncio.sleep(SETTLE)
                async with self._one:
                    delay = await self._pass()
        finally:
            self._running = False
            reader.stop()

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _pass(self) -> float:
        """One pass; seconds until the next if nobody asks."""
        self._asked.clear()
        waiters, self._waiters = self._waiters, []
        loop = asyncio.get_running_loop()
        try:
            state = self.collect()
            result = await loop.run_in_executor(self._executor, self.target.apply, state)
        except Exception as error:  # a hook or netlink as a whole broke: tell, wait, try again
            self._failures += 1
            log.exception("network pass failed")
            for future in waiters:
                if not future.done():
                    future.set_exception(AxonemeError(f"network pass: {error}"))
            return backoff(self._failures)
        self._note(result)
        for future in waiters:
            if not future.done():
                future.set_result(self.errors)
        return self._next(result)

    def _note(self, result: PassResult) -> None:
        old, self.statuses = self.statuses, {x: RowStatus("done") for x in result.done}
        for name, error in result.failed.items():
            before = old.get(name)
            retries = (before.retries if before else 0) + 1
            self.statuses[name] = RowStatus("error", str(error), retries)
            if retries == 2:  # once may be a pod that is just going away
                log.warning("network item failed", extra={"object": name, "error": str(error)})
        if result.changed or result.swept:
            log.info(
                "network applied",
                extra={
                    "changed": result.changed,
                    "swept": result.swept,
                    "failed": len(result.failed),
                },
            )

    def _next(self, result: PassResult) -> float:
        if result.failed:
            self._failures += 1
            return min(backoff(self._failures), self.full_interval)
        self._failures = 0
        if result.waiting:
            return self.target.grace + 0.1
        return self.full_interval * random.uniform(0.9, 1.1)
