"""Who stands behind an address, when sources disagree and nodes come and go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from attrs import evolve

from axoneme.core.errors import AxonemeError, InvalidObjectError
from axoneme.core.ipcache.feeder import IpcacheFeeder
from axoneme.core.ipcache.generation import PolicyGeneration
from axoneme.core.ipcache.ipcache import Ipcache, ipcache_table
from axoneme.core.ipcache.maps import DIRECT, encode_entry
from axoneme.core.ipcache.remote import (
    ClusterEndpoint,
    cluster_endpoint_table,
    decode_cluster_endpoint,
)
from axoneme.core.model.identity import Reserved, reserved_labels
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.nodes.directory import node_tables
from axoneme.core.state import TableRegistry

POD = IPv4Address("10.0.2.7")
HERE, THERE = IPv4Address("172.18.0.2"), IPv4Address("172.18.0.3")


class World:
    """Tables and a feeder; :meth:`flush` delivers what was written."""

    def __init__(self) -> None:
        tables = TableRegistry()
        self.ipcache = Ipcache(ipcache_table(tables))
        self.ipcache.add_world(ipv4=True, ipv6=True)
        _, self.nodes = node_tables(tables)
        self.endpoints = cluster_endpoint_table(tables)
        number = lambda node: int(Reserved.HOST if node.local else Reserved.REMOTE_NODE)  # noqa: E731
        IpcacheFeeder(self.ipcache, self.nodes, self.endpoints, identity_of=number)

    def flush(self) -> None:
        for table in (self.nodes, self.endpoints):
            table._scheduled = True
            table.flush()

    def identity(self, address: str) -> int:
        entry = self.ipcache.lookup(
            IPv6Address(address) if ":" in address else IPv4Address(address)
        )
        return entry.identity if entry else 0


def remote_node() -> Node:
    return Node(
        "n2",
        ipv4=THERE,
        router_ipv4=IPv4Address("10.0.2.1"),
        pod_cidrs=(IPv4Network("10.0.2.0/24"),),
    )


def test_stronger_source_wins_and_weaker_waits() -> None:
    """A pod's own entry beats a CIDR rule about its address, which comes back afterwards."""
    ipcache = Ipcache(ipcache_table(TableRegistry()))
    prefix = IPv4Network("10.0.2.7/32")
    ipcache.upsert(prefix, 300, THERE, "endpoint")
    ipcache.upsert(prefix, 1 << 24 | 5, source="cidr")
    assert ipcache.table.get(prefix).identity == 300  # type: ignore[union-attr]
    ipcache.delete(prefix, "endpoint")
    assert ipcache.table.get(prefix).identity == 1 << 24 | 5  # type: ignore[union-attr]
    ipcache.delete(prefix, "cidr")
    ipcache.delete(prefix, "cidr")
    assert ipcache.table.get(prefix) is None


def test_forged_endpoint_cannot_take_the_nodes_address() -> None:
    """A CiliumEndpoint that claims this node's address changes nothing."""
    world = World()
    world.nodes.upsert(Node("n1", ipv4=HERE, local=True))
    world.nodes.upsert(remote_node())
    world.endpoints.upsert(ClusterEndpoint("x", "evil", 666, HERE, None, THERE))
    world.flush()
    assert world.identity(str(HERE)) == 1


def test_remote_endpoint_follows_its_node() -> None:
    """Known endpoint of an unknown node: world; node known: its identity, through that node."""
    world = World()
    world.endpoints.upsert(ClusterEndpoint("a", "web", 300, POD, None, THERE))
    world.flush()
    assert world.identity(str(POD)) == 9
    world.nodes.upsert(remote_node())
    world.flush()
    entry = world.ipcache.lookup(POD)
    assert entry is not None
    assert (entry.identity, entry.node_ip) == (300, THERE)
    world.nodes.delete("n2")
    world.flush()
    assert world.identity(str(POD)) == 9


def test_node_entries() -> None:
    """Underlay addresses go as they are, router and pod CIDR through the node; host is 1."""
    world = World()
    world.nodes.upsert(Node("n1", ipv4=HERE, local=True, pod_cidrs=(IPv4Network("10.0.1.0/24"),)))
    world.nodes.upsert(remote_node())
    world.flush()
    rows = {str(r.prefix): (r.identity, r.node_ip, r.direct) for r in world.ipcache.table.rows()}
    assert rows["172.18.0.2/32"] == (1, None, False)
    assert rows["172.18.0.3/32"] == (6, THERE, True)
    assert rows["10.0.2.1/32"] == (6, THERE, False)
    assert rows["10.0.2.0/24"] == (3, THERE, False)
    entry = world.ipcache.lookup(THERE)
    assert entry is not None
    assert encode_entry(entry)[1].flags == DIRECT
    assert "10.0.1.0/24" not in rows


def test_newest_of_two_objects_with_one_address_counts() -> None:
    """A pod that took over an address wins over the stale object of the one before."""
    world = World()
    world.nodes.upsert(remote_node())
    world.endpoints.upsert(ClusterEndpoint("a", "old", 300, POD, None, THERE, created="1"))
    world.flush()
    world.endpoints.upsert(ClusterEndpoint("a", "new", 301, POD, None, THERE, created="2"))
    world.flush()
    assert world.identity(str(POD)) == 301
    world.endpoints.delete(("a", "new"))
    world.flush()
    assert world.identity(str(POD)) == 300


def test_newest_is_the_same_after_a_restart() -> None:
    """The order in which objects arrive, by name at a start, says nothing."""
    world = World()
    world.nodes.upsert(remote_node())
    for name, identity, created in (("a-new", 301, "2026-01-02"), ("z-old", 300, "2026-01-01")):
        world.endpoints.upsert(
            ClusterEndpoint("a", name, identity, POD, None, THERE, created=created)
        )
    world.flush()
    assert world.identity(str(POD)) == 301


def test_endpoint_holds_addresses_of_its_node_only() -> None:
    """An object cannot make a stranger's address a pod; a node without pod CIDRs is believed."""
    world = World()
    world.nodes.upsert(remote_node())
    world.endpoints.upsert(ClusterEndpoint("a", "x", 300, IPv4Address("8.8.8.8"), None, THERE))
    world.flush()
    assert world.identity("8.8.8.8") == 9
    world.nodes.upsert(evolve(remote_node(), pod_cidrs=()))
    world.flush()
    assert world.identity("8.8.8.8") == 300


def test_unknown_pod_is_not_the_world() -> None:
    """Unmanaged, behind its node: no policy about the world or about pods means it."""
    world = World()
    world.nodes.upsert(remote_node())
    world.flush()
    entry = world.ipcache.lookup(POD)
    assert entry is not None
    assert (entry.identity, entry.node_ip) == (int(Reserved.UNMANAGED), THERE)
    assert reserved_labels(Reserved.UNMANAGED) == LabelSet.parse(["reserved:unmanaged"])


@pytest.mark.parametrize("prefix", ["10.0.2.0/24", "10.0.2.0/25", "10.0.2.7/32"])
@pytest.mark.parametrize("node_first", [True, False])
def test_prefix_of_a_policy_keeps_the_way(prefix: str, node_first: bool) -> None:
    """Its identity counts, and packets still go through the node, whoever came first."""
    world = World()
    named = IPv4Network(prefix)
    steps: list[Callable[[], object]] = [
        lambda: world.nodes.upsert(remote_node()),
        lambda: world.ipcache.upsert(named, 1 << 24 | 9, source="cidr"),
    ]
    for step in steps if node_first else reversed(steps):
        step()
        world.flush()
    entry = world.ipcache.table.get(named)
    assert entry is not None
    assert (entry.identity, entry.node_ip) == (1 << 24 | 9, THERE)
    world.nodes.upsert(evolve(remote_node(), ipv4=IPv4Address("172.18.0.9")))
    world.flush()
    assert world.ipcache.table.get(named).node_ip == IPv4Address("172.18.0.9")  # type: ignore[union-attr]
    world.nodes.delete("n2")
    world.flush()
    assert world.ipcache.table.get(named).node_ip is None  # type: ignore[union-attr]
    assert world.ipcache.table.get(IPv4Network("0.0.0.0/0")).node_ip is None  # type: ignore[union-attr]


def test_moved_endpoint_leaves_its_old_address() -> None:
    """An endpoint that changes its address takes the entry along."""
    world = World()
    world.nodes.upsert(remote_node())
    world.endpoints.upsert(ClusterEndpoint("a", "web", 300, POD, None, THERE))
    world.flush()
    world.endpoints.upsert(ClusterEndpoint("a", "web", 300, IPv4Address("10.0.2.8"), None, THERE))
    world.flush()
    assert world.identity("10.0.2.8") == 300
    assert world.identity(str(POD)) == 3


def test_unknown_source_is_an_error() -> None:
    """A typo in a source must not become a silent lowest priority."""
    with pytest.raises(AxonemeError, match="sidecar"):
        Ipcache(ipcache_table(TableRegistry())).upsert(ip_network("::/0"), 1, source="sidecar")


def test_generation_never_loses_a_step() -> None:
    """Threads that raise it at the same time each see a value of their own."""

    class Slots:
        def __init__(self) -> None:
            self.value = 0

        def get(self, slot: int) -> int:
            return self.value

        def set(self, slot: int, value: int) -> None:
            self.value = value

    slots = Slots()
    generation = PolicyGeneration(lambda: slots, lambda: 0)
    seen: list[int] = []

    def work() -> None:
        seen.extend(generation.bump() for _ in range(500))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(1, 2001))


@pytest.mark.parametrize(
    "status",
    [
        {"identity": {"id": "x"}},
        {"identity": {"id": 1 << 30}},
        {"identity": {"id": 300}, "networking": {"addressing": [{"ipv4": "10.0.0.300"}]}},
        {"identity": {"id": 300}, "networking": {"addressing": [1]}},
        {
            "identity": {"id": 300},
            "networking": {"addressing": [{"ipv4": "10.0.0.3"}], "node": "nowhere"},
        },
        {
            "identity": {"id": 300},
            "networking": {"addressing": [{"ipv4": "10.0.0.3"}]},
            "named-ports": [{"name": "a", "port": 70000}],
        },
    ],
)
def test_hostile_endpoint_is_refused(status: dict[str, object]) -> None:
    """Each bad field is refused by name and nothing else is raised."""
    obj = ClusterObject(ObjectKey("CiliumEndpoint", "a", "b"), "v2", body={"status": status})
    with pytest.raises(InvalidObjectError):
        decode_cluster_endpoint(obj)


def test_endpoint_without_identity_is_left_out() -> None:
    """An object in the making is no error and no row."""
    obj = ClusterObject(ObjectKey("CiliumEndpoint", "a", "b"), "v2", body={"status": {}})
    assert decode_cluster_endpoint(obj) is None
