"""A load balancer's address on the nodes' link: one node answers, another when it dies."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from tests.services.modes import LabRun

pytestmark = [pytest.mark.root, pytest.mark.lab]

ADDRESSES = ("172.18.0.230", "fd00:18::e6")
MANIFEST = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: {name: link}
spec:
  blocks:
    - {start: 172.18.0.230, stop: 172.18.0.235}
    - {start: "fd00:18::e6", stop: "fd00:18::ef"}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumL2AnnouncementPolicy
metadata: {name: all}
spec: {loadBalancerIPs: true, interfaces: ["^eth"]}
"""
SHORT = {
    "enable-l2-announcements": "true",
    "l2-announcements-lease-duration": "3s",
    "l2-announcements-renew-deadline": "1s",
    "l2-announcements-retry-period": "200ms",
}


@pytest.fixture(scope="module")
def lab() -> Iterator[LabRun]:
    """Three nodes, short leases, a client on their link."""
    name = f"axl{os.getpid() % 100000}"
    with LabRun(name, "snat", "tunnel", config=SHORT, manifest=MANIFEST) as running:
        yield running


def announced(lab: LabRun, among: tuple[str, ...]) -> dict[str, list[str]]:
    """Node → addresses that it answers for."""
    found = {}
    for node in among:
        rows = json.loads(lab.run("l2", "list", "--node", node, "-o", "json"))
        if rows:
            found[node] = sorted(r["address"] for r in rows)
    return found


def fetch(lab: LabRun, address: str) -> bool:
    """One connection of the client."""
    host = f"[{address}]" if ":" in address else address
    curl = ["curl", "-s", "-g", "-m", "1", f"http://{host}/"]
    return bool(lab.run("lab", "client", "ann", "--", *curl, check=False).strip())


def wait_for(lab: LabRun, seconds: float = 40) -> float:
    """Until the client reaches both addresses; how long it took."""
    began = time.monotonic()
    while not all(fetch(lab, a) for a in ADDRESSES):
        assert time.monotonic() - began < seconds
    return time.monotonic() - began


def test_one_node_answers_and_another_when_it_dies(
    lab: LabRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed without a word, and then the next one stopped, which gives its lease back."""
    wait_for(lab)
    every = ("node1", "node2", "node3")
    owners = announced(lab, every)
    assert list(owners.values()) == [sorted(ADDRESSES)]
    [first] = owners
    lab.run("lab", "agent", first, "kill")
    lab.run("lab", "node", first, "--", "ip", "link", "set", "eth0", "down")
    killed = wait_for(lab)
    rest = tuple(n for n in every if n != first)
    [second] = announced(lab, rest)
    lab.run("lab", "agent", second, "stop")
    lab.run("lab", "node", second, "--", "ip", "link", "set", "eth0", "down")
    stopped = wait_for(lab)
    assert announced(lab, tuple(n for n in rest if n != second))
    with capsys.disabled():
        print(f"\nL2 fail-over: {killed:.1f} s after a kill, {stopped:.1f} s after a stop")
