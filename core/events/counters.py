"""What became of the events themselves: how many were read, how many lost and where.

The packets' own counters (``cilium_drop_count_total`` …) are read from ``axo_metrics`` by
:mod:`axoneme.core.api.core_metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from axoneme.core.datapath.typed import TypedMap
    from axoneme.core.events.service import EventService
    from axoneme.core.metrics import MetricRegistry

LOSSES: Final = ("ring-full", "rate-limited")
"""Slots of ``axo_event_loss``: ``AXO_LOSS_*``."""

Samples = Iterable[tuple[Sequence[str], float]]


class LossCounters:
    """Reads ``axo_event_loss``: events that the packet path could not tell."""

    def __init__(self, losses: TypedMap[int, int]) -> None:
        self._losses = losses

    def read(self) -> dict[str, int]:
        """Totals by why."""
        return {why: self._losses.get(slot) or 0 for slot, why in enumerate(LOSSES)}


def register_metrics(metrics: MetricRegistry, service: EventService) -> None:
    """``axoneme_events_lost_total{where}`` and ``axoneme_events_read_total``."""

    def lost() -> Samples:
        return [([where], count) for where, count in service.losses().items()]

    def read() -> Samples:
        return [([], service.reader.read if service.reader else 0)]

    metrics.collect_counter("events_lost_total", "events lost, by where", ["where"], lost)
    metrics.collect_counter("events_read_total", "events read from the ring", [], read)
