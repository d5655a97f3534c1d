"""A lab for the benchmarks: up, pods without responders, the agents' files and processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axoneme.core.lab.paths import LabPaths
from tests.perf.topology import tune

AXONEME = str(Path(sys.executable).with_name("axoneme"))
PATHS = LabPaths.current()
"""``AXONEME_LAB`` chooses the lab, as for the command line."""

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
{pods}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: bench, namespace: bench}
spec:
  endpointSelector: {}
  ingress:
  - fromEndpoints: [{matchLabels: {role: bench}}]
  egress:
  - toEndpoints: [{matchLabels: {role: bench}}]
"""

POD = """apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: bench
  labels: {role: bench}
  annotations: {lab.axoneme.io/command: "sleep infinity"}
spec:
  nodeName: {node}
  containers: [{name: main, image: none}]
"""


def axoneme(*arguments: str, timeout: float = 240) -> str:
    """Run the command line; the error carries what it said."""
    done = subprocess.run(
        [AXONEME, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise RuntimeError(f"axoneme {' '.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout


def pods() -> dict[str, dict[str, Any]]:
    """``lab pods`` by pod name."""
    return {p["name"]: p for p in json.loads(axoneme("lab", "pods", "-o", "json"))}


def apply(text: str, folder: Path) -> None:
    """Apply a manifest given as text."""
    path = folder / "bench.yaml"
    path.write_text(text)
    axoneme("lab", "apply", "-f", str(path))


def agent_pid(node: str) -> int:
    """The agent's process on a node, from the lab's pid file."""
    return int(PATHS.pid_file(node).read_text().split()[0])


def pod_manifest(name: str, node: str) -> str:
    """One pod that runs nothing."""
    return POD.replace("{name}", name, 1).replace("{node}", node)


@contextmanager
def lab(folder: Path, *config: str, nodes: int = 2) -> Iterator[dict[str, str]]:
    """A lab with pods a and b on node 1, c on node 2, policy on; yields name → IPv4 address."""
    axoneme("lab", "down")
    flags = [part for item in config for part in ("--config", item)]
    try:
        axoneme("lab", "up", "--nodes", str(nodes), *flags)
        where = {"a": "node1", "b": "node1", "c": f"node{min(nodes, 2)}"}
        text = "---\n".join(pod_manifest(name, node) for name, node in where.items())
        apply(MANIFEST.replace("{pods}", text), folder)
        tune(PATHS.pod_netns_name("bench", "a"))
        found = pods()
        yield {n: next(a for a in found[n]["addresses"] if ":" not in a) for n in where}
    finally:
        axoneme("lab", "down")
