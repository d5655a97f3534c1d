"""One stream of events, many readers, none of whom can hold up another.

Each reader has a queue of bounded length. One that does not keep up loses the newest events and
is told how many; the ring is read on regardless.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from axoneme.core.events.model import Event

QUEUE: Final = 8192
"""Events that wait for one reader."""

Predicate = Callable[[Event], bool]


class Subscription:
    """One reader. Use as a context manager; ``await next()`` gives what has come since."""

    def __init__(self, fanout: Fanout, wanted: Predicate | None, limit: int) -> None:
        self.lost = 0
        """Events that did not fit the queue, since the beginning."""
        self._fanout = fanout
        self._wanted = wanted
        self._limit = limit
        self._queue: deque[Event] = deque()
        self._some = asyncio.Event()

    def offer(self, events: Sequence[Event]) -> None:
        """Take what fits and is wanted; called by the fan-out."""
        if self._wanted is not None:
            events = [x for x in events if self._wanted(x)]
        room = self._limit - len(self._queue)
        self._queue.extend(events[:room])
        self.lost += max(0, len(events) - room)
        if events:
            self._some.set()

    async def next(self, limit: int = 1024) -> list[Event]:
        """Wait for events; at most ``limit`` at once, oldest first."""
        await self._some.wait()
        batch = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
        if not self._queue:
            self._some.clear()
        return batch

    def close(self) -> None:
        """Stop listening."""
        self._fanout.subscriptions.discard(self)
        self._fanout.note()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Fanout:
    """Hands batches to every subscription."""

    def __init__(self) -> None:
        self.subscriptions: set[Subscription] = set()
        self.changed: Callable[[], object] | None = None
        """Called after a reader has come or gone."""

    def subscribe(self, wanted: Predicate | None = None, limit: int = QUEUE) -> Subscription:
        """Start to listen; ``wanted`` keeps what is not asked for out of the queue."""
        subscription = Subscription(self, wanted, limit)
        self.subscriptions.add(subscription)
        self.note()
        return subscription

    def note(self) -> None:
        """Tell whoever wants to know that readers have changed."""
        if self.changed is not None:
            self.changed()

    def publish(self, events: Sequence[Event]) -> None:
        """Hand a batch to everybody; never waits."""
        for subscription in list(self.subscriptions):
            subscription.offer(events)
