"""``policy-deny-response=icmp`` in a lab: an application is told at once that it may not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: quick, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: quick, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: out, namespace: quick}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress: [{toEndpoints: [{matchLabels: {app: server}}], toPorts: [{ports: [{port: "8080"}]}]}]
"""
TRY = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20).close()
    print("connected")
except OSError as error:
    print(type(error).__name__, error.errno)
"""


@pytest.fixture(scope="module")
def lab(cluster: Any) -> Iterator[Any]:
    """Two nodes."""
    cluster.up(2, policy_deny_response="icmp")
    cluster.apply(MANIFEST)
    yield cluster
    cluster.down()


def connect(lab: Any, address: str, port: int) -> str:
    command = (sys.executable, "-c", TRY, address, str(port))
    done = lab.run("lab", "exec", "quick/client", "--", *command)
    return str(done.stdout).strip()


@pytest.mark.parametrize(("family", "said"), [(4, "OSError 113"), (6, "PermissionError 13")])
def test_a_refused_connect_fails_with_a_reason(lab: Any, family: int, said: str) -> None:
    """EHOSTUNREACH by IPv4, EACCES by IPv6; what is allowed goes on."""
    address = lab.addresses("quick/server")[family]
    assert connect(lab, address, 9999) == said
    assert connect(lab, address, 8080) == "connected"
    assert connect(lab, {4: "198.51.100.1", 6: "2001:db8:51::1"}[family], 80) == said
