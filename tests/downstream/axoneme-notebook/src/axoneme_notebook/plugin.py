"""The hooks of the notebook plugin."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme_notebook.notes import EventCount, Note, load, save, write_down

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.events.model import Event
    from axoneme.core.events.registry import EventRegistry
    from axoneme.core.model.endpoint import Endpoint
    from axoneme.core.model.labels import LabelSet
    from axoneme.core.status import StatusReport
    from axoneme.core.store.kinds import KindRegistry

NAME = "notebook"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Notes what happens on a node"

EVENT_TYPE = 230

_seen: Counter[str] = Counter()
"""Events of this process by kind: the hook about events has no agent to ask for a table."""


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """Two keys."""
    options.add("enable-notebook", "bool", False, "Keep notes about endpoints and events")
    options.add("notebook-entries", "int", 1000, "Notes that are kept, the newest", min=1)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """On by its own key."""
    on = config.flag("enable-notebook")
    return on, f"enable-notebook={str(on).lower()}"


@hookimpl
def axoneme_register_kinds(kinds: KindRegistry) -> None:
    """A kind of our own."""
    from axoneme.core.store.kinds import Kind

    kinds.add(Kind("Notebook", "notebook.example.com", "v1", "notebooks", namespaced=True))


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Tables, and the notes of the run before."""
    notes = agent.tables.create("notes", Note, key=lambda row: row.number)
    agent.tables.create("noted_events", EventCount, key=lambda row: row.kind)
    load(notes, agent.state_dir / "notebook.json")


@hookimpl
def axoneme_label_pod(labels: LabelSet) -> LabelSet | None:
    """Pods that ask for it get a label, and with it an identity, of their own."""
    from axoneme.core.model.labels import Label, LabelSet

    if labels.get("k8s", "notebook") != "yes":
        return None
    return LabelSet.of([*labels, Label("notebook", "noted")])


@hookimpl
def axoneme_endpoint_changed(endpoint: Endpoint, agent: Agent) -> None:
    """Note it."""
    limit = agent.config.number("notebook-entries")
    write_down(agent.tables["notes"], endpoint.name, str(endpoint.state), limit)


@hookimpl
def axoneme_endpoint_removed(endpoint: Endpoint, agent: Agent) -> None:
    """Note it."""
    limit = agent.config.number("notebook-entries")
    write_down(agent.tables["notes"], endpoint.name, "removed", limit)


@hookimpl
def axoneme_register_events(events: EventRegistry) -> None:
    """A type of our own, in the fixed record's shape."""
    events.add(EVENT_TYPE, "notebook", reasons={1: "noted"})


@hookimpl
def axoneme_handle_events(events: list[Event]) -> None:
    """Count what the node reports."""
    _seen.update(event.kind for event in events)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """One line; the counts go into their table when somebody looks."""
    table = agent.tables["noted_events"]
    for kind, count in _seen.items():
        table.upsert(EventCount(kind, count))
    report.line("Notebook", f"{len(agent.tables['notes'])} notes, {sum(_seen.values())} events")


@hookimpl
def axoneme_stop_agent(agent: Agent) -> None:
    """Keep the notes."""
    save(agent.tables["notes"], agent.state_dir / "notebook.json")
