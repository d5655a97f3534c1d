"""Pods with addresses of the prefixes that Kubernetes gives its Nodes, on both stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

CIDRS = {
    "node1": ("10.244.0.0/24", "fd00:10:244::/64"),
    "node2": ("10.244.1.0/24", "fd00:10:244:1::/64"),
}
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: net}}
spec: {{nodeName: {node}, containers: [{{name: c, ports: [{{containerPort: 8080}}]}}]}}
---
"""


@pytest.fixture(
    scope="module",
    params=["folder", pytest.param("kubernetes", marks=pytest.mark.needs("kubernetes"))],
)
def lab(request: pytest.FixtureRequest, cluster: Any) -> Iterator[Any]:
    """Two nodes with a pod each."""
    cluster.up(2, ipam="kubernetes", store=request.param, k8s_require_ipv6_pod_cidr="true")
    cluster.apply("".join(POD.format(name=f"on-{n}", node=n) for n in CIDRS))
    yield cluster
    cluster.down()


def reached(lab: Any) -> bool:
    """Both families, both ways."""
    rows = lab.matrix("--port", "8080")
    return bool(rows) and all(row["verdict"] == "allowed" for row in rows)


def test_pods_have_addresses_of_their_nodes_prefixes(lab: Any) -> None:
    """Never the node's own one; other nodes route to them."""
    for node, cidrs in CIDRS.items():
        found = lab.addresses(f"net/on-{node}")
        for cidr in map(ip_network, cidrs):
            address = ip_address(found[cidr.version])
            assert address in cidr and address > cidr.network_address + 1
    assert reached(lab)


def test_a_restart_keeps_them_and_says_where_they_come_from(lab: Any) -> None:
    """A pod made after it gets another address of the same prefixes."""
    before = lab.addresses("net/on-node1")
    lab.agent("node1", "restart")
    lab.apply(POD.format(name="late", node="node1"))
    late = lab.addresses("net/late")
    assert lab.addresses("net/on-node1") == before
    assert all(ip_address(late[n.version]) in n for n in map(ip_network, CIDRS["node1"]))
    assert set(late.values()).isdisjoint(before.values())
    assert reached(lab)
    said = json.dumps(lab.call("node1", "status"))
    assert "allocated from 10.244.0.0/24" in said and "ipam-kubernetes" not in said
