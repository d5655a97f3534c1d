"""``axoneme sysdump``: what helps to find a fault, in one file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from axoneme.core.cli.options import lab_nodes
from axoneme.core.text import clean

if TYPE_CHECKING:
    from axoneme.core.sysdump.archive import Archive
    from axoneme.core.sysdump.redact import Scrubber


@click.command("sysdump")
@click.option(
    "--output",
    "--output-filename",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; axoneme-sysdump-DATE.tar.gz when not given.",
)
@click.option("--lab", "lab", metavar="NAME", help="The lab of that name.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The cluster that it names.",
)
@click.option("--socket", type=click.Path(path_type=Path), help="One agent alone.")
@click.option("--log-lines", default=10000, show_default=True, help="Lines of a pod's log.")
def sysdump(
    *,
    path: Path | None,
    lab: str | None,
    kubeconfig: Path | None,
    socket: Path | None,
    log_lines: int,
) -> None:
    """Collect status, configuration, tables, metrics, logs and objects.

    Of a running lab, of a cluster, or of one agent. Secrets never get into
    the file: objects are copied by lists of fields that hold none, and values
    of Secrets are cut out of logs. What could not be had is in problems.json.

    \b
    axoneme sysdump
    axoneme sysdump --lab lab --output dump.tar.gz
    axoneme sysdump --kubeconfig ~/.kube/config
    """
    from axoneme.core.sysdump.archive import Archive
    from axoneme.core.sysdump.redact import Scrubber

    if sum(bool(given) for given in (lab, kubeconfig, socket)) > 1:
        raise click.UsageError("one of --lab, --kubeconfig and --socket")
    path = path or Path(time.strftime("axoneme-sysdump-%Y%m%d-%H%M%S.tar.gz"))
    scrubber = Scrubber()
    with Archive(path, scrubber) as archive:
        if kubeconfig:
            _cluster(archive, scrubber, kubeconfig, log_lines)
        elif socket or not (lab or lab_nodes()):
            _agent(archive, socket)
        else:
            _lab(archive, scrubber, lab)
        problems = list(archive.problems)
    for problem in problems:
        click.echo(f"warning: not collected: {clean(problem)}", err=True)
    click.echo(f"{archive.files} files in {path}")


def _lab(archive: Archive, scrubber: Scrubber, name: str | None) -> None:
    from axoneme.core.lab.paths import ENVIRONMENT, LabPaths
    from axoneme.core.sysdump import lab

    if name:
        os.environ[ENVIRONMENT] = name
    lab.collect(archive, scrubber, LabPaths.current())


def _cluster(archive: Archive, scrubber: Scrubber, kubeconfig: Path, lines: int) -> None:
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.k8s.open import open_kubernetes
    from axoneme.core.lab.plugins import Checker
    from axoneme.core.options import register
    from axoneme.core.sysdump import cluster

    registry = OptionRegistry()
    register(registry)
    config = Config.load(registry, {"k8s-kubeconfig-path": str(kubeconfig)})
    store = open_kubernetes(config, Checker().kinds)
    cluster.collect(archive, scrubber, store, lines=lines)


def _agent(archive: Archive, socket: Path | None) -> None:
    """One agent by its socket, without the store that it reads."""
    from axoneme.core.cli.options import find_agent
    from axoneme.core.sysdump import node
    from axoneme.core.sysdump.lab import by_socket

    handle = find_agent(socket=str(socket or ""))
    handle.call("status.get")  # no agent: no dump
    node.collect(node.NodeDump(handle.node or "local", by_socket(handle.socket), archive))
