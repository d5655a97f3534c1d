"""Who announces a service: the holder of its lease.

A holder that has not been able to renew for the deadline stops before anybody may take over, which
is after the lease's duration. Time is this machine's own monotonic clock.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from attrs import define

from axoneme.plugins.l2_announcements.config import Timing

log = logging.getLogger(__name__)

Acquire = Callable[[float], Awaitable[bool]]
"""Take or renew for so many seconds; ``False``: another has it. May raise."""


@define
class Candidate:
    """One node and one service. ``tick`` is to be called every retry period."""

    acquire: Acquire
    timing: Timing
    holds: bool = False
    _renewed: float = 0.0

    async def tick(self, clock: Callable[[], float]) -> bool:
        """Try to take or renew; whether this node announces now."""
        began = clock()
        got: bool | None
        try:
            got = await self.acquire(self.timing.duration)
        except Exception as error:  # the store is away: the deadline decides
            log.debug("lease not renewed", extra={"error": str(error)})
            got = None
        if got:
            self.holds, self._renewed = True, began  # before the store wrote: never too long
        elif got is False:
            self.holds = False
        return self.check(clock())

    def check(self, now: float) -> bool:
        """Past the deadline a holder is none."""
        if self.holds and now - self._renewed > self.timing.deadline:
            self.holds = False
        return self.holds

    async def release(self) -> None:
        """Let others have it at once."""
        if self.holds:
            self.holds = False
            await self.acquire(0)
