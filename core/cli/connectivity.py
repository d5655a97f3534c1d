"""``axoneme connectivity test``: scenarios in the lab, or in a cluster."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.cluster_options import cluster_options
from axoneme.core.cli.options import lab_nodes, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output
    from axoneme.core.cluster.connect import Place
    from axoneme.core.connectivity.model import Outcome, Scenario

COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


@click.group("connectivity")
def connectivity() -> None:
    """Try whether a cluster's network does what it should.

    \b
    axoneme connectivity test
    axoneme connectivity test --list
    """


@connectivity.command("test")
@click.option("--test", "patterns", multiple=True, metavar="PATTERN",
              help="Names or themes (client-*, services); !PATTERN leaves out.")  # fmt: skip
@click.option("--list", "listing", is_flag=True, help="Name the scenarios, try none.")
@click.option("--lab", is_flag=True, help="In the lab, also if a kubeconfig is there.")
@click.option("--image", default="", help="Image of the pods; the agents' when not given.")
@click.option(
    "--external", multiple=True, metavar="IP", help="An address outside that answers pings."
)
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit's XML to this file.")
@click.option("--timeout", default=20.0, show_default=True, help="Seconds for one scenario.")
@click.option("--no-cleanup", is_flag=True, help="Leave the pods running.")
@cluster_options
@output_option
def test(
    *,
    patterns: tuple[str, ...],
    listing: bool,
    lab: bool,
    image: str,
    external: tuple[str, ...],
    junit: Path | None,
    timeout: float,
    no_cleanup: bool,
    place: Place,
    output: Output,
) -> int:
    """Run the scenarios; exits with 1 when one failed.

    In the lab when one is up and no cluster is named, else in the cluster of
    the kubeconfig. Pods run in the namespace axoneme-test, which goes afterwards.

    \b
    axoneme connectivity test --test 'policies' --junit result.xml
    axoneme connectivity test --kubeconfig ~/.kube/config --external 198.51.100.1
    """
    from axoneme.core.connectivity import report
    from axoneme.core.connectivity.runner import prepared, run
    from axoneme.core.connectivity.scenarios.every import chosen

    scenarios = chosen(patterns)
    if listing:
        _list(scenarios, output)
        return 0
    named = place.kubeconfig or place.context
    world = _lab() if lab or (lab_nodes() and not named) else _cluster(place, image, external)
    _say(f"{len(scenarios)} scenarios in {world.facts.name}; starting the pods")
    with closing(world), prepared(world, keep=no_cleanup):
        outcomes = run(
            world, scenarios, patience=timeout, tell=lambda n, o: _tell(n, len(scenarios), o)
        )
    if junit is not None:
        junit.write_text(report.junit(outcomes, world.facts.name))
    output.emit(
        report.rows(outcomes),
        lambda: output.table(
            ["Theme", "Passed", "Failed", "Skipped", "Checks", "Time"], report.summary(outcomes)
        ),
    )
    return 1 if any(o.state == "failed" for o in outcomes) else 0


def _lab() -> Any:
    from axoneme.core.connectivity.lab import LabWorld

    return LabWorld()


def _cluster(place: Place, image: str, external: tuple[str, ...]) -> Any:
    from ipaddress import ip_address

    from axoneme.core.boot import boot
    from axoneme.core.connectivity.cluster import ClusterWorld

    for text in external:
        try:
            ip_address(text)
        except ValueError:
            raise click.UsageError(f"--external {text!r}: not an IP address") from None
    config, _ = boot({}, {}, None, None, policy="disable", check=False)
    return ClusterWorld(place, config.registry, image=image, external=external)


def _list(scenarios: list[Scenario], output: Output) -> None:
    rows = [(s.theme, s.name, s.summary, " ".join(s.needs)) for s in scenarios]
    data = [
        {"theme": s.theme, "name": s.name, "summary": s.summary, "needs": list(s.needs)}
        for s in scenarios
    ]
    output.emit(data, lambda: output.table(["Theme", "Name", "Summary", "Needs"], rows))


def _tell(number: int, total: int, outcome: Outcome) -> None:
    state = outcome.state
    word = click.style(state, fg=COLOURS[state]) if sys.stderr.isatty() else state
    why = f": {outcome.problems[0]}" if state == "skipped" else f" ({outcome.seconds:.1f} s)"
    _say(f"[{number}/{total}] {outcome.scenario.name} {word}{why}")
    if state == "failed":
        for problem in outcome.problems:
            _say(f"      {problem}")


def _say(text: str) -> None:
    click.echo(text, err=True)
