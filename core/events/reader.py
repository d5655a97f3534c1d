"""Reads the ring on the loop: in batches, without polling an idle ring, never for long.

The packet path wakes us for the first record after a pause and not for those that follow another
within 8 ms (``AXO_EVENT_WAKE_NS`` in ``bpf/include/axo/events.h``). So a wake-up is followed by
looks at a fixed, longer interval until one finds nothing; only then are wake-ups listened for
again. Under load that is a hundred looks a second, whatever the number of events.

While nobody listens the packet path is told so (``EVENTS_OFF`` of ``axo_runtime``) and tells
nothing, or refusals alone where they are kept (:mod:`axoneme.core.events.recent`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from axoneme.core.events.fanout import Fanout
from axoneme.core.events.model import Event
from axoneme.core.events.recent import RecentEvents
from axoneme.core.events.registry import EventRegistry

log = logging.getLogger(__name__)

INTERVAL: Final = 0.01
"""Seconds between looks while events come; more than ``AXO_EVENT_WAKE_NS``."""
BATCH: Final = 1024
"""Records in one go, some 5 ms of the loop's time; the rest waits its turn."""

Handler = Callable[[list[Event]], object]


class Ring(Protocol):
    """What the reader needs of :class:`axoneme.core.datapath.ring.RingReader`."""

    fd: int

    def drain(self, limit: int = ...) -> list[bytes]:
        """Records, in order."""
        ...


class EventReader:
    """``handlers`` see every batch, in the loop's thread; one that fails is logged and kept."""

    def __init__(
        self,
        ring: Ring,
        registry: EventRegistry,
        fanout: Fanout,
        handlers: Sequence[Handler] = (),
        recent: RecentEvents | None = None,
    ) -> None:
        self.ring = ring
        self.registry = registry
        self.fanout = fanout
        self.handlers = tuple(handlers)
        self.recent = recent
        self.read = 0
        """Records taken from the ring."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failed: set[Handler] = set()

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._look()

    def stop(self) -> None:
        """End; what is in the ring stays there for the next agent."""
        if self._loop is None:
            return
        self._loop.remove_reader(self.ring.fd)
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._timer = None

    def _woken(self) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self.ring.fd)
        self._look()

    def _look(self) -> None:
        assert self._loop is not None
        self._timer = None
        count = self.drain()
        if count == 0:
            self._loop.add_reader(self.ring.fd, self._woken)
        elif count < BATCH or not self._heard:
            self._timer = self._loop.call_later(INTERVAL, self._look)
        else:
            self._timer = self._loop.call_later(0, self._look)

    @property
    def _heard(self) -> bool:
        """Whether somebody wants events at once, rather than asking for them later."""
        return bool(self.handlers or self.fanout.subscriptions)

    def drain(self) -> int:
        """Read, decode and hand out one batch; how many records there were."""
        records = self.ring.drain(BATCH)
        self.read += len(records)
        if self.recent is not None:
            self.recent.keep(records)
        if not records or not self._heard:
            return len(records)  # nobody listens: not worth decoding
        decode = self.registry.decode
        events = [event for event in map(decode, records) if event is not None]
        if events:
            self.fanout.publish(events)
            for handler in self.handlers:
                self._hand(handler, events)
        return len(records)

    def _hand(self, handler: Handler, events: list[Event]) -> None:
        try:
            handler(list(events))
        except Exception:
            if handler not in self._failed:  # once: it may fail a hundred times a second
                self._failed.add(handler)
                log.exception("event handler failed", extra={"handler": repr(handler)})
