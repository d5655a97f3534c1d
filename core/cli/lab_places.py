"""``axoneme lab exec|node|client|kubectl``: commands at some place of the lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from axoneme.core.lab.model import Lab


def _after_dashes(_: object, __: object, words: tuple[str, ...]) -> tuple[str, ...]:
    """``-- CMD``: click leaves the dashes in when the words before them are not options."""
    return words[1:] if words[:1] == ("--",) else words


COMMAND = click.argument(
    "command", nargs=-1, required=True, type=click.UNPROCESSED, callback=_after_dashes
)
RAW = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def current() -> Lab:
    """The running lab."""
    from axoneme.core.lab.model import Lab
    from axoneme.core.lab.paths import LabPaths

    return Lab.load(LabPaths.current())


@click.command("exec", context_settings=RAW)
@click.argument("pod")
@COMMAND
def exec_(pod: str, command: tuple[str, ...]) -> None:
    """Run a command in a pod's network.

    Its exit code is ours; it sees the machine's own files.

    \b
    axoneme lab exec demo/client -- curl -s http://10.244.1.17:8080/
    """
    _enter(pod, command)


@click.command(context_settings=RAW)
@click.argument("node")
@COMMAND
def node(node: str, command: tuple[str, ...]) -> None:
    """Run a command in a node's network, or in "world".

    \b
    axoneme lab node node1 -- ip route
    axoneme lab node world -- ping -c1 172.18.0.2
    """
    from axoneme.core.lab import netns
    from axoneme.core.lab.paths import UNDERLAY, WORLD

    running = current()
    name = node if node in (WORLD, UNDERLAY) else running.node(node).name
    netns.exec_in(running.paths.netns(name), command)


@click.command()
@click.argument("name")
@click.option("--route", "routes", multiple=True, metavar="CIDR=NODE", help="A network by a node.")
@click.option("--delete", is_flag=True, help="Remove the client.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def client(name: str, routes: tuple[str, ...], delete: bool, command: tuple[str, ...]) -> None:
    """A client outside the cluster, made when it is first named; run a command there.

    \b
    axoneme lab client alice
    axoneme lab client alice -- curl -s http://172.18.0.2:30080/
    axoneme lab client alice --route 10.96.0.0/16=node1
    axoneme lab probe client:alice 172.18.0.2 --port 30080
    """
    from axoneme.core.lab import clients, netns

    running = current()
    if delete:
        clients.delete(running, name)
        return
    found = clients.ensure(running, name)
    for each in routes:
        network, _, by = each.partition("=")
        clients.route(running, name, network, by)
    if command:
        netns.exec_in(running.paths.netns(clients.place_of(name)), command)
    click.echo(f"client:{name}  {'  '.join(map(str, found))}")


def _enter(pod: str, command: tuple[str, ...]) -> None:
    from axoneme.core.lab import netns, targets
    from axoneme.core.lab.stores import open_store

    running = current()
    place = targets.source_pod(running, open_store(running), pod)
    assert place.netns is not None
    netns.exec_in(place.netns, command)


@click.command(context_settings=RAW)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(arguments: tuple[str, ...]) -> None:
    """Run kubectl against the lab's API server.

    \b
    axoneme lab kubectl get ciliumnodes
    """
    import os

    from axoneme.core.errors import LabError
    from axoneme.core.lab import netns, stores
    from axoneme.core.lab.paths import WORLD

    running = current()
    if not stores.is_kubernetes(running):
        raise LabError("the lab has no API server", hint="axoneme lab up --store kubernetes")
    server = stores.LabServer(running.paths)
    os.environ["KUBECONFIG"] = str(server.kubeconfig)
    netns.exec_in(running.paths.netns(WORLD), [str(server.binaries / "kubectl"), *arguments])


def register(group: click.Group) -> None:
    """Add them."""
    for command in (exec_, node, client, kubectl):
        group.add_command(command)
