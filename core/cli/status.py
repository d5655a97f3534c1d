"""``axoneme status``: how the agent is, in the shape of ``cilium-dbg status``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from axoneme.core.cli.cluster_options import cluster_options
from axoneme.core.cli.options import AgentHandle, agent_options, output_option
from axoneme.core.errors import NotReadyError

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output
    from axoneme.core.cluster.connect import Place
    from axoneme.core.status import StatusReport

COLOURS = {"Ok": "green", "Warning": "yellow", "Failure": "red", "Disabled": None}


@click.command("status")
@click.option("--brief", is_flag=True, help="One word, or one line per problem.")
@click.option("--verbose", "-v", is_flag=True, help="Components and tasks as well.")
@click.option("--wait", is_flag=True, help="Wait until the agent, or all of a cluster, is ready.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for an agent.")
@click.option("--wait-duration", default="5m", show_default=True, help="The same for a cluster.")
@click.option("--ignore-warnings", is_flag=True, help="Of a cluster: warnings are no failure.")
@cluster_options
@output_option
@agent_options
def status(
    *,
    brief: bool,
    verbose: bool,
    wait: bool,
    timeout: float,
    wait_duration: str,
    ignore_warnings: bool,
    place: Place,
    agent: AgentHandle,
    output: Output,
) -> int:
    """Show how the agent is, or a cluster; exits with 1 when something failed.

    The agent's where one runs or is named; else the cluster's, by a kubeconfig
    or as a pod. With --kubeconfig, --context or --namespace always the cluster's.

    \b
    axoneme status
    axoneme status --wait --kubeconfig ~/.kube/config
    axoneme status --node node1 --verbose
    axoneme status --brief
    """
    from axoneme.core.status import Health, StatusReport

    if _of_a_cluster(agent, place):
        from axoneme.core.cli.cluster_status import show
        from axoneme.core.option_types import PARSERS

        seconds = float(PARSERS["duration"](wait_duration))
        return show(place, output, wait=wait, seconds=seconds, ignore_warnings=ignore_warnings)
    data = _get(agent, wait, timeout)
    report = StatusReport.from_dict(data)
    output.emit(data, lambda: _brief(report, output) if brief else _full(report, output, verbose))
    return 1 if report.health is Health.FAILURE else 0


def _of_a_cluster(agent: AgentHandle, place: Place) -> bool:
    if agent.chosen:
        return False
    named = click.get_current_context().get_parameter_source("namespace")
    if place.kubeconfig or place.context or named is click.core.ParameterSource.COMMANDLINE:
        return True
    return not agent.socket.exists() and bool(place.file)


def _get(agent: AgentHandle, wait: bool, timeout: float) -> dict[str, object]:
    deadline = time.monotonic() + timeout
    while True:
        try:
            found: dict[str, object] = agent.call("status.get", timeout=timeout)
            if not wait or found["health"] == "Ok" or time.monotonic() > deadline:
                return found
        except NotReadyError:
            if not wait or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _brief(report: StatusReport, output: Output) -> None:
    if not report.problems:
        output.line("OK", "green")
    for component in report.problems:
        output.line(f"{component.health}: {component.name}: {component.message}")


def _full(report: StatusReport, output: Output, verbose: bool) -> None:
    # Labels of this width put the values where readers of Cilium's status look for them.
    for label, text in report.lines:
        output.labelled(label, text)
    for component in report.problems:
        output.line(
            f"{component.health}: {component.name}: {component.message}",
            COLOURS[str(component.health)],
        )
    if not verbose:
        return
    output.line()
    output.line("Components:")
    rows = [(c.name, str(c.health), c.message) for c in report.components]
    output.table(["Name", "Health", "Message"], rows)
    for title, lines in report.details.items():
        output.line()
        output.line(f"{title}:")
        for line in lines:
            output.line(f"  {line}")
