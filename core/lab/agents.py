"""The lab's agents and its operator: real processes, started, watched and hurt on demand."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from axoneme.core.api import client
from axoneme.core.errors import AxonemeError, LabError
from axoneme.core.lab import processes, settings
from axoneme.core.lab.model import Lab
from axoneme.core.lab.paths import OPERATOR, UNDERLAY, WORLD, LabPaths

READY_SECONDS: Final = 60.0
LOG_LINES: Final = 12
MAIN: Final = "axoneme.core.cli"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class AgentFailedError(LabError):
    """An agent ended, or does not get ready; ``log`` holds the last lines of what it said."""

    def __init__(self, name: str, what: str, path: Path) -> None:
        self.log = tail(path)
        errors = [x for x in self.log.splitlines() if x.startswith("error: ")]
        said = errors[-1].removeprefix("error: ") if errors else what
        super().__init__(f"{title(name)} {'failed' if errors else ''}: {said}".replace(" :", ":"))
        self.explained = bool(errors)


def start(lab: Lab, name: str) -> processes.Process:
    """Start the agent of a node, or the operator; does not wait until it is ready."""
    paths = lab.paths
    running = processes.from_pid_file(paths.pid_file(name))
    if running is not None:
        raise LabError(f"{title(name)} runs already, process {running.pid}")
    if name == OPERATOR:
        # Inside the underlay's namespace: nothing of the lab runs in the machine's own.
        # With an API server it lives where that is: the underlay itself has no address.
        place = WORLD if lab.config.get("store") == "kubernetes" else UNDERLAY
        config, verb = settings.operator_config(lab), "operator"
    else:
        config, verb, place = settings.node_config(lab, lab.node(name)), "agent", name
    folder = paths.node(name) / "config"
    write_config(folder, config)
    command = [sys.executable, "-m", MAIN, verb, "--config-dir", str(folder)]
    return processes.spawn(
        paths.netns(place), command, log=paths.log(name), pid_file=paths.pid_file(name)
    )


def write_config(folder: Path, config: Mapping[str, str]) -> None:
    """One file per key, like a mounted ConfigMap."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.name not in config:
            old.unlink()
    for key, value in config.items():
        (folder / key).write_text(value)


def stop(lab: Lab, name: str) -> None:
    """SIGTERM the agent and wait until it is gone."""
    processes.stop(_running(lab, name))


def kill(lab: Lab, name: str) -> None:
    """SIGKILL the agent and wait until it is gone."""
    process = _running(lab, name)
    process.signal(signal.SIGKILL)
    process.wait_gone(5.0)


def restart(lab: Lab, name: str) -> None:
    """Stop the agent if it runs, start it again, wait until it is ready."""
    with contextlib.suppress(LabError):
        stop(lab, name)
    start(lab, name)
    wait_ready(lab, [name])


def _running(lab: Lab, name: str) -> processes.Process:
    if name != OPERATOR:
        lab.node(name)
    process = processes.from_pid_file(lab.paths.pid_file(name))
    if process is None:
        raise LabError(
            f"{title(name)} does not run", hint=f"start it with `axoneme lab agent {name} start`"
        )
    return process


def title(name: str) -> str:
    """How messages call the process."""
    return "the operator" if name == OPERATOR else f"the agent of {name}"


def wait_ready(
    lab: Lab,
    names: Iterable[str],
    *,
    timeout: float = READY_SECONDS,
    heard: Callable[[str], None] = lambda name: None,
) -> None:
    """Wait until the agents serve pods; a process that ends meanwhile is an error with its log."""
    waiting = [name for name in names if name != OPERATOR]
    deadline = time.monotonic() + timeout
    last = ""
    while waiting:
        for name in list(waiting):
            ended = processes.from_pid_file(lab.paths.pid_file(name)) is None
            ready, last = is_ready(lab.paths, name)
            if ready:
                waiting.remove(name)
                heard(name)
            elif ended:
                raise AgentFailedError(name, "ended without a word", lab.paths.log(name))
        if waiting and time.monotonic() > deadline:
            what = f"is not ready after {timeout:.0f} s ({last})"
            raise AgentFailedError(waiting[0], what, lab.paths.log(waiting[0]))
        if waiting:
            time.sleep(0.03)


def is_ready(paths: LabPaths, name: str) -> tuple[bool, str]:
    """Whether an agent serves CNI requests, and if not, why."""
    try:
        client.call(paths.socket(name), "cni.status", {}, timeout=2.0)
    except AxonemeError as error:
        return False, str(error)
    return True, ""


def ask(paths: LabPaths, node: str, method: str, params: Mapping[str, Any] | None = None) -> Any:
    """One call of a node's local API."""
    return client.call(paths.socket(node), method, dict(params or {}), timeout=10.0)


def tail(log: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a log, without colour."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(_COLOUR.sub("", text).splitlines()[-lines:]) or "(the log is empty)"
