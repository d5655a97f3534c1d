"""A node of three fails: with Maglev, connections through the others go on, and move to them.

Clients come by several nodes, as behind a router that spreads them. When a node fails, its clients'
packets come by another one, which knows nothing of them: with Maglev and direct server return it
finds the same backend, so that even these connections live.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.services.modes import LabRun

pytestmark = [pytest.mark.root, pytest.mark.lab]

VIP = "203.0.113.9"
MANIFEST = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      nodeSelector: {{kubernetes.io/hostname: node3}}
      containers: [{{name: c, ports: [{{containerPort: 8080}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
status: {{loadBalancer: {{ingress: [{{ip: {VIP}}}]}}}}
"""
HOLD = """
import socket, sys
socks = [socket.create_connection((sys.argv[1], 80), timeout=5) for _ in range(int(sys.argv[2]))]
print("ready", flush=True)
for _ in range(2):
    sys.stdin.readline()
    bad = 0
    for s in socks:
        try:
            s.settimeout(4)
            s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            bad += not s.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            bad += 1
    print(bad, flush=True)
"""


@pytest.fixture(params=["snat", "dsr"])
def lab(request: pytest.FixtureRequest) -> Iterator[LabRun]:
    """Three nodes; the backends are on the third."""
    config = {"bpf-lb-algorithm": "maglev", "enable-lb-ipam": "false"}
    name = f"axf{os.getpid() % 100000}"
    with LabRun(name, request.param, "native", config=config, manifest=MANIFEST) as running:
        yield running


def hold(lab: LabRun, client: str, node: str, count: int) -> subprocess.Popen[str]:
    """Connections of a client that comes by a node."""
    lab.run("lab", "client", client, "--route", f"{VIP}/32={node}")
    process = lab.start("lab", "client", client, "--", "python3", "-c", HOLD, VIP, str(count))
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def broken(process: subprocess.Popen[str]) -> int:
    """How many answer no more."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def test_connections_survive_a_node(lab: LabRun, capsys: pytest.CaptureFixture[str]) -> None:
    """Those through the others in every mode; with DSR those through the failed one too."""
    places = {p["node"] for p in json.loads(lab.run("lab", "pods", "-o", "json"))}
    assert places == {"node3"}
    one, two = hold(lab, "one", "node1", 50), hold(lab, "two", "node2", 50)
    assert (broken(one), broken(two)) == (0, 0)
    lab.run("lab", "agent", "node1", "kill")
    lab.run("lab", "node", "node1", "--", "ip", "link", "set", "eth0", "down")
    lab.run("lab", "client", "one", "--route", f"{VIP}/32=node2")
    other, moved = broken(two), broken(one)
    for process in (one, two):
        process.kill()
        process.communicate()
    with capsys.disabled():
        print(f"\n{lab.mode}: of 50 connections through another node {other} broke, "
              f"of 50 through the failed one {moved}")  # fmt: skip
    assert other == 0
    assert moved == (0 if lab.mode == "dsr" else 50)
