"""An agent killed at random points, a hundred times: what it wrote is always readable."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import evolve

from axoneme.core.errors import AxonemeError
from axoneme.core.lab import agents, cni, netns, processes
from axoneme.core.lab.model import Lab, PodRecord
from axoneme.core.lab.paths import NETNS_DIR, LabPaths

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

KILLS = 100
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: steady, namespace: kill}
spec:
  replicas: 4
  selector: {matchLabels: {app: steady}}
  template:
    metadata: {labels: {app: steady}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
"""


@pytest.fixture(scope="module")
def lab(cluster: Any) -> Iterator[Any]:
    """Two nodes with pods that stay all the time."""
    cluster.up(2)
    cluster.apply(MANIFEST)
    yield cluster
    cluster.down()


def scratch_pod(running: Lab, number: int) -> PodRecord:
    """A namespace of a pod that nobody has told the store of."""
    name = f"{running.paths.pod_prefix}kill-scratch{number}"
    netns.create([name])
    return PodRecord(
        namespace="kill",
        name=f"scratch{number}",
        node="node1",
        uid=f"00000000-0000-0000-0000-{number:012d}",
        container_id=f"{number:064x}",
        netns=str(NETNS_DIR / name),
    )


def assert_readable(folder: Path) -> None:
    """Every file of the agent's state and of the store can be read whole."""
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    for path in (folder.parent.parent / "store").rglob("*.yaml"):
        if not path.name.startswith("."):
            assert isinstance(yaml.safe_load(path.read_text()), dict), path


def test_killed_a_hundred_times_at_random_points(lab: Any) -> None:
    """While it starts, while it serves, while it adds and removes pods; then it is whole again."""
    running = Lab.load(LabPaths(lab.root.name))
    folder = running.paths.node("node1")
    before = lab.pods()
    lab.agent("node1", "kill")
    began = time.monotonic()
    agents.start(running, "node1")
    agents.wait_ready(running, ["node1"])
    to_ready = time.monotonic() - began
    agents.kill(running, "node1")

    chance = random.Random(20)  # the same points each run, as far as the machine allows
    scratch = [scratch_pod(running, n) for n in range(4)]
    survived = 0
    try:
        for round_ in range(KILLS):
            process = agents.start(running, "node1")
            stop = threading.Event()
            churn = threading.Thread(target=_churn, args=(running, scratch, stop, round_))
            churn.start()
            time.sleep(chance.uniform(0, to_ready * 1.3))
            ready = agents.is_ready(running.paths, "node1")[0]
            survived += ready
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait_gone(5.0)
            stop.set()
            churn.join()
            assert_readable(folder)
        agents.start(running, "node1")
        agents.wait_ready(running, ["node1"])
    finally:
        for pod in scratch:
            cni.delete(running.paths, pod)
            netns.delete([Path(pod.netns).name])
    assert 5 < survived < KILLS - 5, f"{survived} of {KILLS} kills hit a ready agent: not random"
    assert lab.pods() == before
    endpoints = lab.call("node1", "state", "endpoints")
    assert {e["pod"] for e in endpoints} == {p["name"] for p in before if p["node"] == "node1"}
    assert {row["verdict"] for row in lab.matrix()} == {"allowed"}


def _churn(running: Lab, scratch: list[PodRecord], stop: threading.Event, turn: int) -> None:
    """Add and remove one pod as fast as the agent allows, so that kills hit half-done work."""
    pod = evolve(scratch[turn % len(scratch)])
    while not stop.is_set():
        for call in (cni.add_once, cni.delete):
            try:
                call(running.paths, pod)
            except AxonemeError:
                stop.wait(0.02)  # the agent is away or starting: the runtime would try again


def test_a_half_written_file_does_not_stop_the_start(lab: Any) -> None:
    """What another program, or a full disk, broke is set aside and named; the rest is restored."""
    running = Lab.load(LabPaths(lab.root.name))
    before = lab.pods()
    folder = running.paths.node("node1") / "endpoints"
    agents.kill(running, "node1")
    (folder / "4095.json").write_text('{"id": 4095, "attach')
    agents.start(running, "node1")
    agents.wait_ready(running, ["node1"])
    assert lab.pods() == before
    assert "4095.json" in running.paths.log("node1").read_text()


def test_a_second_agent_for_the_same_node_refuses(lab: Any) -> None:
    """It says so and ends with 1; the first goes on, its socket untouched."""
    running = Lab.load(LabPaths(lab.root.name))
    first = processes.from_pid_file(running.paths.pid_file("node1"))
    assert first is not None
    config = running.paths.node("node1") / "config"
    done = lab.run("lab", "node", "node1", "--", "true")
    done = lab.run(
        *("lab", "node", "node1", "--", *lab_command(), "agent", "--config-dir", str(config)),
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert "lock" in done.stderr or "runs" in done.stderr, done.stderr
    assert first.alive
    assert agents.is_ready(running.paths, "node1")[0]
    assert {row["verdict"] for row in lab.matrix()} == {"allowed"}


def lab_command() -> list[str]:
    """The command line that the lab itself starts agents with."""
    import sys

    return [sys.executable, "-m", agents.MAIN]
