"""The status report of an agent: what the core knows, then what plugins add."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from axoneme.core.model.identity import MAX_CLUSTER, MIN_CLUSTER
from axoneme.core.plugins import describe
from axoneme.core.status import Health, StatusReport

if TYPE_CHECKING:
    from axoneme.core.agent import Agent

log = logging.getLogger(__name__)


def package_version() -> str:
    """The installed version; ``axoneme`` itself is a namespace without ``__version__``."""
    try:
        return version("axoneme")
    except PackageNotFoundError:
        return "unknown"


def build_report(agent: Agent) -> StatusReport:
    """Everything that ``axoneme status`` shows; a plugin that fails here is a line of its own."""
    report = StatusReport()
    _store(agent, report)
    report.line("Device Mode", agent.config.text("datapath-mode"))
    report.line("Global Identity Range", f"min {MIN_CLUSTER}, max {MAX_CLUSTER}")
    _events(agent, report)
    _tasks(agent, report)
    _reconcilers(agent, report)
    _attachments(agent, report)
    _endpoints(agent, report)
    _plugins(agent, report)
    for name, add in agent.plugins.each("axoneme_report_status"):
        try:
            add(report=report, agent=agent)
        except Exception as error:
            log.exception("plugin failed to report its status", extra={"plugin": name})
            report.component(f"plugin {name}", Health.WARNING, describe(error))
    agent.report(report)
    waiting = agent.why_not_ready()
    if waiting:
        report.component("agent", Health.WARNING, waiting)
    health = report.health
    report.line("Axoneme", f"{health}   {package_version()} on {agent.node_name}")
    return report


def _store(agent: Agent, report: StatusReport) -> None:
    """Where objects live; while that is away the node goes on with what it knows."""
    problems = agent.store.problems()
    health = Health.WARNING if problems else Health.OK
    report.line("Store", f"{'Warning' if problems else 'Ok'}   {agent.store.about()}")
    report.component("store", health, "; ".join(problems[:3]))


def _tasks(agent: Agent, report: StatusReport) -> None:
    states = sorted(agent.tasks.states.values(), key=lambda state: state.name)
    failing = {state.name: state for state in agent.tasks.failing()}
    for state in states:
        if state.name in failing:
            text = f"{state.error} ({state.restarts} restarts)"
            report.component(f"task {state.name}", Health.WARNING, text)
    report.line("Controller Status", f"{len(states) - len(failing)}/{len(states)} healthy")
    report.detail(
        "Controllers",
        [
            f"{s.name}: {s.state}" + (f", {s.restarts} restarts: {s.error}" if s.error else "")
            for s in states
        ],
    )


def _events(agent: Agent, report: StatusReport) -> None:
    lost = sum(agent.events.losses().values())
    text = "Listening for events" if agent.events.reader else "Disabled"
    report.line("NodeMonitor", text + (f", {lost} lost" if lost else ""))


def _reconcilers(agent: Agent, report: StatusReport) -> None:
    """What the kernel does not hold although a table says so; the reconcilers try again."""
    lines = []
    for name, reconciler in sorted(agent.reconcilers.items()):
        errors = reconciler.errors
        lines.append(f"{name}: {len(reconciler.statuses)} rows, {len(errors)} failed")
        for key, error in list(errors.items())[:3]:
            report.component(f"{name} {key}", Health.WARNING, str(getattr(error, "error", error)))
    for key, error in list(agent.network.errors.items())[:3]:
        report.component(f"network {key}", Health.WARNING, error)
    report.detail("Reconcilers", lines)


def _attachments(agent: Agent, report: StatusReport) -> None:
    if "attachments" in agent.tables:
        kind = "TCX" if agent.datapath.target.tcx else "Legacy TC"
        report.line("Attach Mode", f"{kind}   {len(agent.tables['attachments'])} programs")


def _endpoints(agent: Agent, report: StatusReport) -> None:
    if "endpoints" not in agent.tables:
        return
    rows = agent.tables["endpoints"].rows()
    bad = [row for row in rows if str(row.state) in ("invalid", "not-ready")]
    for row in bad:
        report.component(f"endpoint {row.name}", Health.WARNING, row.message or str(row.state))
    report.component("endpoints", Health.OK, f"{len(rows) - len(bad)}/{len(rows)} ready")


def _plugins(agent: Agent, report: StatusReport) -> None:
    infos = agent.plugins.infos
    counts = {word: sum(i.state == word for i in infos) for word in ("on", "off", "failed")}
    report.line("Plugins", ", ".join(f"{number} {word}" for word, number in counts.items()))
    for info in infos:
        if info.state == "failed":
            report.component(f"plugin {info.name}", Health.FAILURE, info.why)
