"""A dump of a lab: the agents' sockets, their logs, the lab's store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from axoneme.core.api import client
from axoneme.core.lab.model import Lab
from axoneme.core.lab.paths import OPERATOR, LabPaths
from axoneme.core.lab.plugins import Checker
from axoneme.core.lab.stores import open_store
from axoneme.core.sysdump import node as nodes
from axoneme.core.sysdump import objects
from axoneme.core.sysdump.archive import MOST, Archive
from axoneme.core.sysdump.redact import Scrubber, settings

_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


def collect(archive: Archive, scrubber: Scrubber, paths: LabPaths) -> None:
    """Objects first: the values of Secrets are known before anything else is written."""
    lab = Lab.load(paths)
    kinds = Checker().kinds
    store = open_store(lab, kinds)
    objects.collect(archive, scrubber, objects.kinds_of(kinds), store.list)
    archive.add_json("lab.json", {"nodes": [n.name for n in lab.nodes],
                                  "config": settings(lab.config)})  # fmt: skip
    for each in lab.nodes:
        archive.attempt(f"nodes/{each.name}/agent.log", partial(log, paths.log(each.name)))
        nodes.collect(nodes.NodeDump(each.name, by_socket(paths.socket(each.name)), archive))
    archive.attempt("operator.log", partial(log, paths.log(OPERATOR)))


def by_socket(socket: Path) -> nodes.Ask:
    """Ask the agent at a socket."""

    def ask(method: str, params: Mapping[str, Any]) -> Any:
        return client.call(socket, method, params)

    return ask


def log(path: Path) -> bytes:
    """The end of a log, without colours."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - MOST))
        return _COLOUR.sub(b"", file.read())
