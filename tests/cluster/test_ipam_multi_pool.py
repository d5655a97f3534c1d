"""Two nodes, three pools: pods get addresses of the pool that they choose, and reach each other."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

MODES = {
    "tunnel": {"routing_mode": "tunnel"},
    "native": {
        "routing_mode": "native",
        "ipv4_native_routing_cidr": "10.0.0.0/8",
        "ipv6_native_routing_cidr": "fd00:10::/32",
        "only_masquerade_default_pool": "true",
    },
}
NETWORKS = {
    "default": ("10.244.0.0/16", "fd00:10:244::/48"),
    "blue": ("10.10.0.0/24", "fd00:10:10::/64"),
    "red": ("10.20.0.0/28", "fd00:10:20::/64"),
}
POOLS = """
apiVersion: cilium.io/v2alpha1
kind: CiliumPodIPPool
metadata: {name: blue}
spec:
  ipv4: {cidrs: [10.10.0.0/24], maskSize: 30}
  ipv6: {cidrs: ["fd00:10:10::/64"], maskSize: 80}
  namespaceSelector: {matchLabels: {team: blue}}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumPodIPPool
metadata: {name: red}
spec:
  ipv4: {cidrs: [10.20.0.0/28], maskSize: 29}
  ipv6: {cidrs: ["fd00:10:20::/64"], maskSize: 80}
---
apiVersion: v1
kind: Namespace
metadata: {name: blue, labels: {team: blue}}
---
apiVersion: v1
kind: Namespace
metadata: {name: red, annotations: {ipam.cilium.io/ip-pool: red}}
---
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {space}, annotations: {{{notes}}}}}
spec: {{nodeName: {node}, containers: [{{name: c, ports: [{{containerPort: 8080}}]}}]}}
---
"""


def pod(space: str, name: str, node: str, notes: str = "") -> str:
    return POD.format(space=space, name=name, node=node, notes=notes)


@pytest.fixture(
    scope="module",
    params=[
        ("tunnel", "folder"),
        ("native", "folder"),
        pytest.param(("tunnel", "kubernetes"), marks=pytest.mark.needs("kubernetes")),
    ],
    ids="-".join,
)
def lab(request: pytest.FixtureRequest, cluster: Any) -> Iterator[Any]:
    """Pods of each pool on each node."""
    mode, store = request.param
    cluster.mode = mode
    cluster.up(2, ipam="multi-pool", store=store, **MODES[mode])
    cluster.apply(POOLS)
    texts = [pod(s, n, n) for s in ("plain", "blue", "red") for n in ("node1", "node2")]
    cluster.apply("".join(texts))
    yield cluster
    cluster.down()


def inside(lab: Any, name: str, v4: str, v6: str = "") -> bool:
    """Whether a pod's addresses are of these pools."""
    wanted = {4: NETWORKS[v4][0], 6: NETWORKS[v6 or v4][1]}
    found = lab.addresses(name)
    return set(found) == {4, 6} and all(
        ip_address(found[v]) in ip_network(cidr) for v, cidr in wanted.items()
    )


def all_reached(lab: Any, count: int) -> None:
    """Every pod reaches every other one, by both families; the ways are those of both nodes."""
    rows = lab.matrix("--port", "8080")
    assert len(rows) >= count * (count - 1)
    assert [row for row in rows if row["verdict"] != "allowed"] == []


def blocks(lab: Any, node: str, pool: str) -> list[str]:
    """What a node's object says."""
    file = Path(lab.root) / "store" / "CiliumNode" / f"{node}.yaml"
    if file.exists():
        body = yaml.safe_load(file.read_text())
    else:
        body = json.loads(lab.run("lab", "kubectl", "get", "cn", node, "-o", "json").stdout)
    pools = body["spec"]["ipam"]["pools"].get("allocated") or ()
    return [cidr for p in pools if p["pool"] == pool for cidr in p["cidrs"]]


def eventually(true: Callable[[], object]) -> None:
    """Within some seconds."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


def test_pods_have_addresses_of_their_pools_and_reach_each_other(lab: Any) -> None:
    """By namespace labels, by namespace annotation, by default."""
    for node in ("node1", "node2"):
        assert inside(lab, f"plain/{node}", "default")
        assert inside(lab, f"blue/{node}", "blue")
        assert inside(lab, f"red/{node}", "red")
    all_reached(lab, 6)


def test_pods_of_other_pools_keep_their_address_if_asked_for(lab: Any) -> None:
    """Towards the world, which knows the way back; those of the default pool take the node's."""
    spared = lab.mode == "native"
    world = f"axo-{lab.root.name}-world"
    for name, kept in (("plain/node1", False), ("red/node1", spared)):
        for family, host in ((4, "198.51.100.1"), (6, "[2001:db8:51::1]")):
            address = lab.addresses(name)[family]
            via = {4: "172.18.0.2", 6: "fd00:18::2"}[family]
            route = ["ip", "-n", world, "route", "replace", address, "via", via]
            subprocess.run(route, check=True)
            ask = ("lab", "exec", name, "--", "curl", "-sg", "-m", "3", f"http://{host}:80/")
            assert json.loads(lab.run(*ask).stdout)["peer"] == (address if kept else via)


def test_a_pod_s_word_counts_for_each_family(lab: Any) -> None:
    """IPv4 of one pool, IPv6 of another; a pool that nobody made is named."""
    notes = "ipam.cilium.io/ip-pool: red, ipam.cilium.io/ipv4-pool: blue"
    lab.apply(pod("plain", "mixed", "node2", notes))
    assert inside(lab, "plain/mixed", "blue", "red")
    done = lab.apply(pod("plain", "lost", "node1", "ipam.cilium.io/ip-pool: green"), check=False)
    assert "there is no CiliumPodIPPool green" in done.stdout + done.stderr
    lab.delete(pod("plain", "lost", "node1"))
    all_reached(lab, 7)
    lab.delete(pod("plain", "mixed", "node2"))


def test_blocks_follow_the_pods_and_the_ways_the_blocks(lab: Any) -> None:
    """More pods than a block has addresses; when they go, so do the blocks."""
    before = blocks(lab, "node1", "blue")
    names = [f"more{n}" for n in range(5)]
    lab.apply("".join(pod("blue", name, "node1") for name in names))
    more = blocks(lab, "node1", "blue")
    assert len([c for c in more if "." in c]) == 3
    assert all(inside(lab, f"blue/{name}", "blue") for name in names)
    for name in names:
        assert lab.probe("red/node2", f"blue/{name}", "--port", "8080")["verdict"] == "allowed"
    said = lab.run("lab", "node", "node2", "--", "ip", "-4", "route").stdout
    assert all(cidr in said for cidr in more if "." in cidr)
    lab.delete("".join(pod("blue", name, "node1") for name in names))
    eventually(lambda: blocks(lab, "node1", "blue") == before)

    def forgotten() -> bool:
        said = lab.run("lab", "node", "node2", "--", "ip", "-4", "route").stdout
        return not any(cidr in said for cidr in set(more) - set(before))

    eventually(forgotten)


def test_a_killed_agent_keeps_every_address_and_block(lab: Any) -> None:
    """And the node its own; pods made afterwards get others."""
    before = {n: lab.addresses(n) for n in ("plain/node1", "blue/node1", "red/node1")}
    routers = {n["name"]: n["router-ipv4"] for n in lab.call("node1", "node", "list")}
    held = {p: blocks(lab, "node1", p) for p in NETWORKS}
    lab.agent("node1", "kill")
    lab.agent("node1", "start")
    lab.apply(pod("blue", "late", "node1"))
    assert set(lab.addresses("blue/late").values()).isdisjoint(before["blue/node1"].values())
    assert {n: lab.addresses(n) for n in before} == before
    assert {n["name"]: n["router-ipv4"] for n in lab.call("node1", "node", "list")} == routers
    assert {p: blocks(lab, "node1", p) for p in held} == held
    all_reached(lab, 7)
    lab.delete(pod("blue", "late", "node1"))


def test_a_pool_that_is_used_up_says_so(lab: Any) -> None:
    """In the pod's error and in the agent's status; a pod that goes makes room."""
    names = [f"full{n}" for n in range(6)]
    done = lab.apply("".join(pod("red", name, "node1") for name in names), check=False)
    assert "no address left in pool red" in done.stdout + done.stderr
    assert "no /29 block left in 10.20.0.0/28" in done.stdout + done.stderr
    said = json.dumps(lab.call("node1", "status"))
    assert "for pool red" in said
    lab.delete("".join(pod("red", name, "node1") for name in names))
    lab.apply(pod("red", "room", "node1"))
    assert inside(lab, "red/room", "red")
    lab.delete(pod("red", "room", "node1"))
    eventually(lambda: "for pool red" not in json.dumps(lab.call("node1", "status")))
