"""Addresses of LoadBalancer services in a lab: the operator is a process of its own there."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.sync import SyncStore
from tests.cluster.conftest import NAME, Cluster

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples" / "services"


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Cluster]:
    """Two nodes that serve services."""
    cluster.up(enable_node_ipam="true", kube_proxy_replacement="true")
    yield cluster
    cluster.down()


def ingress(lab: Cluster, name: str, namespace: str, count: int) -> list[Any]:
    """The addresses of a service, once there are so many."""
    store = SyncStore(lab.root / "store")
    end = time.monotonic() + 60
    while True:
        status = store.get(ObjectKey("Service", namespace, name)).status
        entries = (status.get("loadBalancer") or {}).get("ingress") or []
        if len(entries) == count or time.monotonic() > end:
            assert len(entries) == count, status
            assert all(e["ipMode"] == "VIP" for e in entries)
            return [ip_address(e["ip"]) for e in entries]
        time.sleep(0.1)


def test_a_pool_and_services_with_addresses_of_both_families(lab: Cluster) -> None:
    """The example as it is shipped: each service gets what the pools and its wishes say."""
    lab.apply(EXAMPLES / "load-balancer-pools.yaml")
    four, six = ingress(lab, "web", "default", 2)
    assert four in ip_network("198.51.100.128/28") and six in ip_network("2001:db8:51:128::/112")
    assert ingress(lab, "api", "tenant-a", 1) == [ip_address("198.51.100.155")]
    assert ingress(lab, "dns-udp", "default", 1) == ingress(lab, "dns-tcp", "default", 1)


def test_addresses_outlive_the_operator_and_another_apply(lab: Cluster) -> None:
    """Killed and started again it gives what stands there; applying again takes nothing away."""
    before = ingress(lab, "web", "default", 2)
    lab.agent("operator", "kill")
    lab.agent("operator", "start")
    lab.apply(EXAMPLES / "load-balancer-pools.yaml")
    assert ingress(lab, "web", "default", 2) == before


def test_services_with_the_nodes_own_addresses(lab: Cluster) -> None:
    """All nodes; with externalTrafficPolicy Local the one that the endpoint is on."""
    lab.apply(EXAMPLES / "node-addresses.yaml")
    store = SyncStore(lab.root / "store")
    nodes = {
        obj.key.name: [
            ip_address(a["ip"]) for a in obj.spec["addresses"] if a["type"] == "InternalIP"
        ]
        for obj in store.list("CiliumNode")
    }
    assert set(ingress(lab, "everywhere", "default", 4)) == {a for n in nodes.values() for a in n}
    pod = next(p for p in lab.pods() if p["name"].startswith("edge"))
    assert ingress(lab, "where-it-runs", "default", 2) == nodes[pod["node"]]


def asked(space: str, *addresses: Any) -> list[str]:
    """Which pods answer HTTP at these addresses, asked from a network namespace."""
    found = []
    for address in addresses:
        host = f"[{address}]" if address.version == 6 else str(address)
        done = subprocess.run(
            ["ip", "netns", "exec", space, "curl", "-s", "-m", "5", "--retry", "5",
             "--retry-all-errors", f"http://{host}/"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.append(json.loads(done.stdout)["pod"])
    return found


def test_the_addresses_are_served(lab: Cluster) -> None:
    """An outsider reaches a pod by the nodes' addresses, and by a pool's when it is routed."""
    lab.apply(
        "apiVersion: v1\nkind: Pod\n"
        "metadata: {name: web, namespace: default, labels: {app: web}}\n"
        "spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}\n"
    )
    world = f"axo-{NAME}-world"
    everywhere = ingress(lab, "everywhere", "default", 4)
    assert asked(world, *everywhere) == ["default/edge"] * 4
    given = ingress(lab, "web", "default", 2)
    for address in given:
        gateway = next(a for a in everywhere if a.version == address.version)
        subprocess.run(
            ["ip", "-n", world, "route", "add", str(address), "via", str(gateway)], check=True
        )
    assert asked(world, *given) == ["default/web"] * 2
