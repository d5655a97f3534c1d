"""``axoneme lab``: a cluster on one machine. The work is in :mod:`axoneme.core.lab`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli import lab_places

if TYPE_CHECKING:
    from axoneme.core.lab.controller import Result
    from axoneme.core.lab.manifests import Document
    from axoneme.core.lab.model import Lab
    from axoneme.core.lab.output import Output
    from axoneme.core.store.sync import BlockingStore

OUTPUT = click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    help="Form of the output.",
)
PROTO = click.option(
    "--proto", type=click.Choice(["tcp", "udp", "icmp"]), help="Default: that of the port."
)
FILES = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Manifest file or folder; may be repeated.",
)


@click.group("lab")
def lab() -> None:
    """Run a cluster of network namespaces on this machine.

    \b
    axoneme lab up --nodes 3
    axoneme lab apply -f deploy/examples
    axoneme lab matrix
    axoneme lab down
    """


def _output(quiet: bool = False) -> Output:
    from axoneme.core.lab.output import Output

    return Output(quiet=quiet)


def _data(data: Any, form: str, indent: int | None = 1) -> bool:
    """Print it for programs; ``False`` when people want to read it."""
    if form == "json":
        click.echo(json.dumps(data, indent=indent))
    elif form == "yaml":
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False), nl=False)
    return form != "table"


def _lab() -> Lab:
    """The running lab."""
    from axoneme.core.lab.model import Lab
    from axoneme.core.lab.paths import LabPaths

    return Lab.load(LabPaths.current())


def _store(running: Lab) -> BlockingStore:
    from axoneme.core.lab.stores import open_store

    return open_store(running)


@lab.command()
@click.option("--nodes", default=2, show_default=True, help="Number of nodes.")
@click.option("--config", "settings", multiple=True, metavar="KEY=VALUE", help="Configuration.")
@click.option("--ipv6/--no-ipv6", default=True, help="Pods with IPv6 beside IPv4 (the default).")
@click.option(
    "--store",
    type=click.Choice(["folder", "kubernetes"]),
    default="folder",
    show_default=True,
    help="Where objects live; kubernetes: a real API server with etcd.",
)
def up(nodes: int, settings: tuple[str, ...], ipv6: bool, store: str) -> None:
    """Start a lab.

    \b
    axoneme lab up
    axoneme lab up --nodes 3 --config routing-mode=native
    axoneme lab up --store kubernetes
    """
    from axoneme.core.lab import report, start
    from axoneme.core.lab.paths import LabPaths
    from axoneme.core.lab.settings import parse

    config = parse(settings)
    if not ipv6:
        config.setdefault("enable-ipv6", "false")
    if store != "folder":
        config["store"] = store
    output = _output()
    running = start.up(LabPaths.current(), nodes, config, output)
    report.print_lab(running, output)
    report.print_problems(running, [n.name for n in running.nodes], output)


@lab.command()
def down() -> None:
    """Remove the lab and all of it, also after a crash."""
    from axoneme.core.errors import LabError
    from axoneme.core.lab import cleanup
    from axoneme.core.lab.model import locked
    from axoneme.core.lab.paths import LabPaths

    paths, output = LabPaths.current(), _output()
    if not cleanup.anything_there(paths):
        output.note("no lab is there")
        return
    # A command that is at work gets a moment to end; one that hangs does not keep the lab alive.
    with output.step("remove the lab"), locked(paths, timeout=5.0):
        left = cleanup.tear_down(paths)
    if left:
        raise LabError(f"still there: {', '.join(left)}")


@lab.command()
@FILES
def apply(files: tuple[Path, ...]) -> None:
    """Put manifests into the store; workloads get pods.

    \b
    axoneme lab apply -f app.yaml -f policies/
    """
    from axoneme.core.lab import controller, settle
    from axoneme.core.lab.model import locked
    from axoneme.core.lab.output import count

    running, output = _lab(), _output()
    store, documents = _read(running, files)
    with locked(running.paths):
        result = controller.apply(running, store, documents, output)
        settle.wait(running, store, output)
    _finish(result, output, f"{count(result.applied, 'object')} applied")


@lab.command()
@FILES
def delete(files: tuple[Path, ...]) -> None:
    """Remove what manifests name, and the pods that follow from it.

    \b
    axoneme lab delete -f policies/
    """
    from axoneme.core.lab import controller, settle
    from axoneme.core.lab.model import locked
    from axoneme.core.lab.output import count

    running, output = _lab(), _output()
    store, documents = _read(running, files)
    with locked(running.paths):
        result = controller.delete(running, store, documents, output)
        settle.wait(running, store, output)
    _finish(result, output, f"{count(result.deleted, 'object')} deleted")


def _read(running: Lab, files: tuple[Path, ...]) -> tuple[BlockingStore, list[Document]]:
    """The store and the checked documents of the given files."""
    from axoneme.core.lab import manifests
    from axoneme.core.lab.plugins import Checker
    from axoneme.core.lab.stores import open_store

    checker = Checker()
    store = open_store(running, checker.kinds)
    nodes = [n.name for n in running.nodes]
    return store, manifests.read(files, store, nodes, checker.check)


def _finish(result: Result, output: Output, text: str) -> None:
    """Say what was done; fail when something could not be."""
    from axoneme.core.lab.output import count

    if result.created:
        text += f", {count(len(result.created), 'pod')} started"
    if result.removed:
        text += f", {count(len(result.removed), 'pod')} removed"
    output.note(text)
    for name, message in sorted(result.failures.items()):
        output.error(f"pod {name}: {message}")
    if result.failures:
        sys.exit(1)


@lab.command()
@OUTPUT
@click.option("-n", "--namespace", default="", help="Only this namespace.")
def pods(form: str, namespace: str) -> None:
    """List the pods."""
    from axoneme.core.lab import report

    running = _lab()
    rows = report.pod_rows(running, _store(running), namespace)
    if not _data(rows, form):
        _output().print(report.pod_table(rows))


@lab.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Default: TO's first port.")
@PROTO
@click.option(
    "--family",
    type=click.Choice(["4", "6"]),
    default=None,
    help="IPv4 or IPv6; default: the first both have.",
)
@OUTPUT
def probe(
    source: str, target: str, port: int, proto: str | None, family: str | None, form: str
) -> None:
    """Make one connection attempt; say what came of it.

    It is allowed, denied or an error, and the reason is given where it is known.

    FROM is a pod, a node or "world"; TO is a pod, service, node, address or "world".

    \b
    axoneme lab probe demo/client demo/web --port 8080
    axoneme lab probe demo/client 198.51.100.1 --proto icmp
    """
    from axoneme.core.lab import probe as probes
    from axoneme.core.lab import report, targets

    running = _lab()
    store = _store(running)
    order = probes.order(
        targets.source(running, store, source),
        targets.target(running, store, target),
        family=int(family or 0),
        proto=proto or "",
        port=port,
    )
    result = probes.run(running, [order])[0]
    if not _data(result.as_dict(), form, indent=None):
        _output().print(report.probe_line(order, result))


@lab.command()
@click.option("-n", "--namespace", default="", help="Only pods of this namespace.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Default: declared ports.")
@PROTO
@click.option("--with", "others", multiple=True, metavar="WHO", help='Also a node, or "world".')
@click.option("-v", "--verbose", is_flag=True, help="Every refused pair, not a few a reason.")
@OUTPUT
def matrix(
    namespace: str, port: int, proto: str | None, others: tuple[str, ...], verbose: bool, form: str
) -> None:
    """Probe every pair of pods, in both families.

    With --with also between each pod and a node, and from each pod to the
    outside world.

    \b
    axoneme lab matrix
    axoneme lab matrix -n shop --port 8080 -v
    axoneme lab matrix --with node1 --with world -o json
    """
    from axoneme.core.lab import matrix as matrices
    from axoneme.core.lab import report, targets

    running = _lab()
    pods = matrices.places(running, namespace)
    more = [targets.source(running, _store(running), text) for text in others]
    orders = matrices.orders(pods, port=port, proto=proto or "")
    orders += matrices.with_others(pods, more, port=port, proto=proto or "")
    output = _output(quiet=form != "table")
    with output.step(f"{len(orders)} probes among {len(pods) + len(more)} ends"):
        cells = matrices.run(running, orders)
    if not _data([c.as_dict() for c in cells], form):
        report.print_matrix([*pods, *more], cells, output, everything=verbose)


@lab.command()
@click.argument("node")
@click.argument("action", type=click.Choice(["restart", "kill", "stop", "start"]))
@click.option(
    "--config", "settings", multiple=True, metavar="KEY=VALUE", help="Change the configuration."
)
def agent(node: str, action: str, settings: tuple[str, ...]) -> None:
    """Stop, kill, start or restart a node's agent.

    NODE may also be "operator" or "all". Configuration given here is kept for
    the whole lab; each agent reads it at its next start.

    \b
    axoneme lab agent node1 kill
    axoneme lab agent all restart --config routing-mode=native
    """
    from axoneme.core.lab import faults
    from axoneme.core.lab.settings import parse

    faults.act(_lab(), node, action, parse(settings), _output())


@lab.command()
@click.option("--keep", is_flag=True, help="Leave the lab running afterwards.")
def demo(keep: bool) -> None:
    """Show it all: nodes, pods, policies, matrix, drops."""
    from axoneme.core.lab import demo as show

    sys.exit(show.run(_output(), keep=keep))


def register(root: Any) -> None:
    """Add the group to the root command."""
    root.add_command(lab)


lab_places.register(lab)
