"""Hooks of observability: events, metrics, status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks.markers import hookspec

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.events.model import Event
    from axoneme.core.events.registry import EventRegistry
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.status import StatusReport


@hookspec
def axoneme_register_events(events: EventRegistry) -> None:
    """Declare decoders for event types of the plugin's own C (types 200 to 255)."""


@hookspec
def axoneme_handle_events(events: list[Event]) -> None:
    """See a batch of decoded events, in order. Called off the packet path; must not block."""


@hookspec
def axoneme_register_metrics(metrics: MetricRegistry, agent: Agent) -> None:
    """Declare metrics; collectors are read when a scraper asks, not before."""


@hookspec
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Add lines to ``axoneme status`` and components to the health of the node."""
