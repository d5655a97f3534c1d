"""``axoneme lab agent``: faults on demand, and changes of configuration by restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from axoneme.core.errors import LabError
from axoneme.core.lab import agents, report
from axoneme.core.lab.model import Lab, locked
from axoneme.core.lab.output import Output
from axoneme.core.lab.paths import OPERATOR

ALL: Final = "all"
PAST: Final = {"restart": "restarted", "kill": "killed", "stop": "stopped", "start": "started"}


def act(lab: Lab, node: str, action: str, config: Mapping[str, str], output: Output) -> None:
    """Do one thing to one agent, to the operator, or to all of them one after the other.

    ``config`` is remembered for the whole lab; an agent reads it at its next start.
    """
    if config and action not in ("restart", "start"):
        raise LabError(f"--config has no meaning for {action}", hint="use it with restart")
    if node not in (ALL, OPERATOR):
        lab.node(node)
    with locked(lab.paths):
        if config:
            lab = lab.with_config(config)
            lab.save()
        names = [OPERATOR, *(n.name for n in lab.nodes)] if node == ALL else [node]
        for name in names:
            with output.step(f"{agents.title(name)} {PAST[action]}"):
                _act(lab, name, action)
        if action in ("restart", "start"):
            report.print_problems(lab, [n for n in names if n != OPERATOR], output)


def _act(lab: Lab, name: str, action: str) -> None:
    match action:
        case "restart":
            agents.restart(lab, name)
        case "kill":
            agents.kill(lab, name)
        case "stop":
            agents.stop(lab, name)
        case _:
            agents.start(lab, name)
            agents.wait_ready(lab, [name])
