"""Nodes that clash are left out, everything else goes on."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

import pytest

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.nodes.directory import NodeDirectory, node_tables
from axoneme.core.nodes.objects import decode_node, encode_pools, first_address
from axoneme.core.nodes.runtime import RuntimeFact, RuntimeTarget, address_facts, mac_fact
from axoneme.core.state import TableRegistry


class Cluster:
    def __init__(self) -> None:
        self.seen, self.nodes = node_tables(TableRegistry())
        self.directory = NodeDirectory(self.seen, self.nodes)

    def put(self, *nodes: Node) -> None:
        for node in nodes:
            self.seen.upsert(node)
        self.flush()

    def flush(self) -> None:
        self.seen._scheduled = True
        self.seen.flush()

    @property
    def names(self) -> set[str]:
        return {n.name for n in self.nodes.rows()}


def node(name: str, last: int, cidr: str, *, local: bool = False) -> Node:
    return Node(
        name, ipv4=IPv4Address(f"172.18.0.{last}"), pod_cidrs=(ip_network(cidr),), local=local
    )


def test_overlapping_cidr_is_reported_and_left_out() -> None:
    """The node that came later is ignored; the message names CIDRs and the other node."""
    cluster = Cluster()
    cluster.put(node("a", 2, "10.0.1.0/24"), node("b", 3, "10.0.2.0/24"))
    cluster.put(node("c", 4, "10.0.0.0/16"))
    assert cluster.names == {"a", "b"}
    assert "10.0.0.0/16 overlaps 10.0.1.0/24 of node a" in cluster.directory.errors["c"]


def test_this_node_never_yields() -> None:
    """Whoever clashes with the local node goes, also when it was there first."""
    cluster = Cluster()
    cluster.put(node("a", 2, "10.0.1.0/24"))
    cluster.put(node("me", 3, "10.0.1.0/25", local=True))
    assert cluster.names == {"me"}
    assert "a" in cluster.directory.errors


def test_clash_that_ends_lets_the_node_in() -> None:
    """When the other one goes or moves, the ignored node is taken up."""
    cluster = Cluster()
    cluster.put(node("a", 2, "10.0.1.0/24"))
    cluster.put(node("b", 3, "10.0.1.0/24"))
    assert cluster.names == {"a"}
    cluster.put(node("a", 2, "10.0.9.0/24"))
    assert cluster.names == {"a", "b"}
    cluster.put(node("c", 4, "10.0.1.128/25"))
    cluster.seen.delete("b")
    cluster.flush()
    assert cluster.names == {"a", "c"}
    assert not cluster.directory.errors


def test_shared_address_is_a_clash() -> None:
    """Two nodes with one underlay address cannot both be right."""
    cluster = Cluster()
    cluster.put(node("a", 2, "10.0.1.0/24"))
    cluster.put(node("b", 2, "10.0.2.0/24"))
    assert cluster.names == {"a"}


def test_families_do_not_clash() -> None:
    """IPv4 and IPv6 numbers that look alike are different things."""
    cluster = Cluster()
    one = Node("a", pod_cidrs=(IPv4Network("0.0.0.0/8"),))
    two = Node("b", pod_cidrs=(IPv6Network("::/8"),))
    cluster.put(one, two)
    assert cluster.names == {"a", "b"}


def cilium_node(spec: dict[str, object]) -> ClusterObject:
    return ClusterObject(ObjectKey("CiliumNode", "", "n"), "cilium.io/v2", body={"spec": spec})


def test_decode() -> None:
    """The first address of a type and family counts; pod CIDRs keep their order."""
    found = decode_node(
        cilium_node(
            {
                "addresses": [
                    {"type": "InternalIP", "ip": "172.18.0.2"},
                    {"type": "InternalIP", "ip": "172.18.0.9"},
                    {"type": "CiliumInternalIP", "ip": "fd00::1"},
                    {"type": "ExternalIP", "ip": "8.8.8.8"},
                ],
                "ipam": {"podCIDRs": ["10.0.1.0/24", "fd00::/64"]},
            }
        ),
        "n",
    )
    assert str(found.ipv4) == "172.18.0.2"
    assert str(found.router_ipv6) == "fd00::1"
    assert found.local
    assert [str(c) for c in found.pod_cidrs] == ["10.0.1.0/24", "fd00::/64"]
    assert str(first_address(found.pod_cidrs[0])) == "10.0.1.1"


def test_blocks_of_pools_are_pod_cidrs() -> None:
    """Behind the others, each once; which pool they are of is known."""
    allocated = [
        {"pool": "default", "cidrs": ["10.0.2.0/27", "fd00:2::/80"], "allowLastIP": True},
        {"pool": "blue", "cidrs": ["10.0.1.0/24"]},
        {"pool": "none"},
    ]
    ipam = {"podCIDRs": ["10.0.1.0/24"], "pools": {"allocated": allocated}}
    found = decode_node(cilium_node({"ipam": ipam}), "n")
    assert list(map(str, found.pod_cidrs)) == ["10.0.1.0/24", "10.0.2.0/27", "fd00:2::/80"]
    assert [(p.name, len(p.cidrs), p.allow_last) for p in found.pools] == [
        ("default", 2, True), ("blue", 1, False), ("none", 0, False),
    ]  # fmt: skip
    assert encode_pools(found.pools) == allocated[:2]


@pytest.mark.parametrize(
    "spec",
    [
        {"ipam": {"pools": {"allocated": [{"pool": "a", "cidrs": ["10.0.0.1/24"]}]}}},
        {"ipam": {"pools": {"allocated": [{"pool": "a", "cidrs": ["10.0.0.0/32"] * 1025}]}}},
        {"ipam": {"pools": {"allocated": [{"cidrs": []}]}}},
        {"ipam": {"pools": {"allocated": "all"}}},
        {"addresses": "x"},
        {"addresses": [{"ip": "nowhere"}]},
        {"addresses": [7]},
        {"ipam": {"podCIDRs": ["10.0.0.1/24"]}},
    ],
)
def test_hostile_node_is_refused(spec: dict[str, object]) -> None:
    """Bad fields are refused by path."""
    with pytest.raises(InvalidObjectError, match=r"spec\."):
        decode_node(cilium_node(spec), "me")


class Slots:
    def __init__(self) -> None:
        self.values: dict[int, int] = {}

    def get(self, slot: int) -> int:
        return self.values.get(slot, 0)

    def set(self, slot: int, value: int) -> None:
        self.values[slot] = value


def test_runtime_target_writes_rows_and_leaves_generations_alone() -> None:
    """Only slots with rows are written, a vanished row leaves zero, an unknown slot fails alone."""
    slots, raised = Slots(), []
    slots.values[0] = 42
    target = RuntimeTarget(
        slots,  # type: ignore[arg-type]
        {"POLICY_GEN": 0, "ROUTER_V4": 2, "ROUTER_MAC": 5},
        lambda: raised.append(1),
    )
    rows = {
        f.name: f
        for f in (
            *address_facts("ROUTER", IPv4Address("10.0.1.1")),
            mac_fact("ROUTER_MAC", "02:00:00:00:00:01"),
            RuntimeFact("NOWHERE", 1),
        )
    }
    failed = target.resync(rows)
    assert set(failed) == {"NOWHERE"}
    assert slots.values[0] == 42
    assert slots.values[2].to_bytes(8, "little")[:4] == bytes([10, 0, 1, 1])
    assert slots.values[5].to_bytes(8, "little") == bytes.fromhex("0200000000010000")
    target.apply({}, {"ROUTER_V4": rows["ROUTER_V4"]})
    assert slots.values[2] == 0
    assert len(raised) == 2
