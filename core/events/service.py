"""The events of one agent, wired together.

Order of use: make it; let plugins fill :attr:`registry`; :meth:`open` when the maps are there;
:meth:`start` on the loop; :meth:`stop`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from axoneme.core.datapath.ring import RingReader
from axoneme.core.events.counters import LossCounters, register_metrics
from axoneme.core.events.fanout import Fanout
from axoneme.core.events.filters import EventFilter
from axoneme.core.events.model import AgentNotice, Event, EventType
from axoneme.core.events.names import Names
from axoneme.core.events.reader import EventReader, Handler
from axoneme.core.events.recent import RecentEvents
from axoneme.core.events.record import STRUCT, RecordDecoder
from axoneme.core.events.registry import EventRegistry
from axoneme.core.state import TableRegistry

if TYPE_CHECKING:
    from axoneme.core.api.server import ApiRouter
    from axoneme.core.datapath.enums import EnumTable
    from axoneme.core.datapath.layouts import Layout
    from axoneme.core.datapath.maps import BpfMap
    from axoneme.core.datapath.typed import TypedMap
    from axoneme.core.metrics import MetricRegistry

K = TypeVar("K")
V = TypeVar("V")

RING: Final = "axo_events"
LOSS: Final = "axo_event_loss"
RUNTIME: Final = "axo_runtime"
SWITCH: Final = "EVENTS_OFF"
"""Slot of ``axo_runtime``: 1 while nobody listens, so that packets pay for no event."""
TOLD, UNTOLD, REFUSALS = 0, 1, 2
"""Its values: everything, nothing, drops and what policy refused alone."""
REPORT_SECONDS: Final = 1.0
"""How soon a listener is told of losses."""


class Datapath(Protocol):
    """What is needed of :class:`axoneme.core.datapath.manager.DatapathManager`."""

    @property
    def maps(self) -> Mapping[str, BpfMap]:
        """Open maps by name."""
        ...

    def layout(self, name: str, /) -> Layout:
        """Layout of a struct."""
        ...

    def typed(self, name: str, key: type[K], value: type[V], /) -> TypedMap[K, V]:
        """A map of models."""
        ...

    def enums(self, name: str, /) -> EnumTable:
        """An X-macro enumeration, by its macro."""
        ...


class EventService:
    """Registry, names, fan-out, reader and counters of one agent."""

    def __init__(self, tables: TableRegistry, node_name: str = "") -> None:
        self.registry = EventRegistry()
        self.names = Names(tables, node_name)
        self.fanout = Fanout()
        self.recent = RecentEvents(self.registry)
        self.reader: EventReader | None = None
        self.counters: LossCounters | None = None
        self._lost_by_readers = 0
        self._ring: RingReader | None = None
        self._switch: Callable[[int], object] | None = None

    def open(self, datapath: Datapath, handlers: Sequence[Handler] = ()) -> None:
        """Bind to the maps. ``handlers`` see every batch (``axoneme_handle_events``)."""
        words = {
            macro: {number: entry.text for number, entry in datapath.enums(macro).items()}
            for macro in ("AXO_DROP", "AXO_TRACE", "AXO_MATCH")
        }
        self.registry.bind(
            RecordDecoder(
                datapath.layout(STRUCT),
                drops=words["AXO_DROP"],
                points=words["AXO_TRACE"],
                matches=words["AXO_MATCH"],
            )
        )
        self.counters = LossCounters(datapath.typed(LOSS, int, int))
        self._ring = RingReader(datapath.maps[RING])
        self.reader = EventReader(self._ring, self.registry, self.fanout, handlers, self.recent)
        slot = datapath.enums("AXO_RUNTIME").by_name[SWITCH]
        self._switch = partial(datapath.typed(RUNTIME, int, int).__setitem__, slot)
        self.fanout.changed = self._turn
        self._turn()

    def _turn(self) -> None:
        """Events on or off in the packet path, as long as somebody listens or nobody does."""
        listeners = self.reader is not None and (self.reader.handlers or self.fanout.subscriptions)
        quiet = REFUSALS if self.reader is not None and self.recent.limit else UNTOLD
        if self._switch is not None:
            self._switch(TOLD if listeners else quiet)

    def keep(self, limit: int) -> None:
        """How many drops and verdicts :attr:`recent` holds; 0 asks the kernel for none."""
        self.recent.limit = limit
        self._turn()

    def start(self) -> None:
        """Read, on the running loop."""
        assert self.reader is not None, "open() comes first"
        self.reader.start()

    def stop(self) -> None:
        """Stop reading and let go of the ring."""
        if self.reader is not None:
            self.reader.stop()
            self.reader = None
            self._turn()
        self._switch = None
        if self._ring is not None:
            self._ring.close()
        self._ring = self.counters = None

    def losses(self) -> dict[str, int]:
        """Events that were not told, by where they were lost."""
        found = self.counters.read() if self.counters else {}
        waiting = sum(x.lost for x in self.fanout.subscriptions)
        found["slow-reader"] = self._lost_by_readers + waiting
        found["malformed"] = self.registry.malformed
        return found

    def notify(self, notice: AgentNotice, text: str, **facts: Any) -> None:
        """Tell listeners something that no packet tells: an event of type ``agent``."""
        if self.fanout.subscriptions:
            event = Event(EventType.AGENT, "agent", int(notice), text, time.time(), data=facts)
            self.fanout.publish([event])

    # The local API

    def register_api(self, api: ApiRouter) -> None:
        """Add the stream ``monitor.events``, and ``monitor.recent``."""
        api.add_stream("monitor.events", self.stream)
        api.add("monitor.recent", self.recall)

    def register_metrics(self, metrics: MetricRegistry) -> None:
        """Add the counters of read and lost events."""
        register_metrics(metrics, self)

    async def recall(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """The last drops and verdicts, oldest first; filters as for ``monitor.events``."""
        chosen = EventFilter.parse(params, self.registry.names()).predicate(self.names)
        events = self.recent.events()
        return [self.names.describe(e) for e in events if chosen is None or chosen(e)]

    async def stream(self, params: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Events as they come, described; and ``{"lost": n, "where": …}`` when some are not.

        ``types``, ``from``, ``to``, ``related_to``: see :class:`EventFilter`. With ``hello`` the
        first line, ``{"hello": true}``, says that the subscription stands.
        """
        chosen = EventFilter.parse(params, self.registry.names())
        with self.fanout.subscribe(chosen.predicate(self.names)) as subscription:
            if params.get("hello"):
                yield {"hello": True}  # from here on nothing is missed
            before = self._kernel_losses()
            told = 0
            try:
                while True:
                    try:
                        events = await asyncio.wait_for(subscription.next(), REPORT_SECONDS)
                    except TimeoutError:
                        events = []
                    for event in events:
                        yield self.names.describe(event)
                    if subscription.lost > told:
                        yield {"lost": subscription.lost - told, "where": "slow-reader"}
                        told = subscription.lost
                    now = self._kernel_losses()
                    for where, count in now.items():
                        if count > before.get(where, 0):
                            yield {"lost": count - before.get(where, 0), "where": where}
                    before = now
            finally:
                self._lost_by_readers += subscription.lost

    def _kernel_losses(self) -> dict[str, int]:
        return self.counters.read() if self.counters else {}
