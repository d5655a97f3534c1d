"""Requests per second, with a burst: what ``k8s-client-qps`` and ``k8s-client-burst`` promise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class TokenBucket:
    """``rate`` tokens a second, ``burst`` at most; who waits is served in order."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate, self.burst = rate, max(1, burst)
        self._clock = clock
        self._tokens = float(self.burst)
        self._filled = clock()

    def reserve(self) -> float:
        """Take a token; seconds until it counts. No limit at rate 0."""
        if self.rate <= 0:
            return 0.0
        self._fill()
        self._tokens -= 1
        return max(0.0, -self._tokens / self.rate)

    def wait(self) -> float:
        """Seconds until there is a token; none is taken."""
        if self.rate <= 0:
            return 0.0
        self._fill()
        return max(0.0, (1 - self._tokens) / self.rate)

    def change(self, rate: float, burst: int) -> None:
        """Another rate from now on; what is saved up beyond the new burst is lost."""
        self._fill()
        self.rate, self.burst = rate, max(1, burst)
        self._tokens = min(self.burst, self._tokens)

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self.burst, self._tokens + (now - self._filled) * self.rate)
        self._filled = now

    async def take(self) -> None:
        """Wait for a token."""
        if wait := self.reserve():
            await asyncio.sleep(wait)
