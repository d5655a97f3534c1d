"""Which pool, how many, which address, which block: the pure parts."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.errors import ConfigError, InvalidObjectError, NotFoundError, NotReadyError
from axoneme.core.model.endpoint import AddressPair
from axoneme.core.model.node import NodePool
from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.selectors import LabelSelector
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.store.manifest import to_object
from axoneme.plugins.ipam_multi_pool.allocator import NoAddressError, PoolAllocator
from axoneme.plugins.ipam_multi_pool.choice import choose
from axoneme.plugins.ipam_multi_pool.config import ahead, pools_to_create, register
from axoneme.plugins.ipam_multi_pool.demand import capacity, needed
from axoneme.plugins.ipam_multi_pool.plan import plan
from axoneme.plugins.ipam_multi_pool.tables import (
    FamilyPool,
    NodeNeeds,
    PodIPPool,
    Request,
    decode_needs,
    decode_pool,
)

BOTH = {4: "blue", 6: "blue"}
OLD = ip_network("10.9.0.0/24")
SMALL = NodePool("blue", (ip_network("10.10.0.0/30"), ip_network("fd00:10::/126")))


def family(cidr: str, size: int) -> FamilyPool:
    return FamilyPool((ip_network(cidr),), size)


def pool(name: str, **more: Any) -> PodIPPool:
    return PodIPPool(name, family("10.10.0.0/28", 30), family("fd00:10::/124", 126), **more)


# How many


@pytest.mark.parametrize(
    ("used", "kept", "wanted"),
    [(0, 8, 8), (1, 8, 16), (8, 8, 16), (9, 8, 24), (0, 0, 0), (5, 0, 5), (3, 1, 4)],
)
def test_needs_go_in_steps(used: int, kept: int, wanted: int) -> None:
    """As Cilium counts."""
    assert needed(used, kept) == wanted
    assert wanted >= used + kept


@pytest.mark.parametrize(
    ("cidr", "first", "last", "wanted"),
    [("10.0.0.0/28", False, False, 14), ("10.0.0.0/28", True, False, 15),
     ("10.0.0.0/28", True, True, 16), ("10.0.0.0/32", False, False, 1),
     ("fd00::/127", False, False, 2), ("fd00::/126", False, True, 3)],
)  # fmt: skip
def test_first_and_last_addresses(cidr: str, first: bool, last: bool, wanted: int) -> None:
    """Nobody's, unless the pool allows them, or a block has no others."""
    assert capacity(ip_network(cidr), allow_first=first, allow_last=last) == wanted


# Which pool


POOLS = [
    PodIPPool("a-v6", None, family("fd00::/64", 80), pods=LabelSelector.of({"app": "web"})),
    PodIPPool("b-web", family("10.1.0.0/24", 28), None, pods=LabelSelector.of({"app": "web"})),
    pool("c-team", namespaces=LabelSelector.of({"team": "blue"})),
    pool(
        "d-both",
        pods=LabelSelector.of({"io.kubernetes.pod.namespace": "x"}),
        namespaces=LabelSelector.of({"team": "x"}),
    ),
    pool("e-none"),
]
ANY, V6 = "ipam.cilium.io/ip-pool", "ipam.cilium.io/ipv6-pool"


@pytest.mark.parametrize(
    ("labels", "annotations", "space_labels", "space_annotations", "wanted"),
    [
        ({}, {}, {}, {}, ("default", "default")),
        ({}, {ANY: "red"}, {}, {ANY: "green"}, ("red", "red")),
        ({}, {ANY: "red", V6: "six"}, {}, {}, ("red", "six")),
        ({}, {V6: "six"}, {}, {ANY: "green"}, ("green", "six")),
        ({"app": "web"}, {}, {}, {ANY: "green"}, ("green", "green")),
        ({"app": "web"}, {}, {}, {}, ("b-web", "a-v6")),
        ({}, {}, {"team": "blue"}, {}, ("c-team", "c-team")),
        ({"io.kubernetes.pod.namespace": "x"}, {}, {"team": "y"}, {}, ("default", "default")),
        ({"io.kubernetes.pod.namespace": "x"}, {}, {"team": "x"}, {}, ("d-both", "d-both")),
    ],
)
def test_the_first_word_counts(
    labels: Any, annotations: Any, space_labels: Any, space_annotations: Any, wanted: Any
) -> None:
    """Pod, namespace, selectors, default; for each family by itself."""

    def found(version: int) -> str:
        return choose(
            version,
            pod=(labels, annotations),
            namespace=(space_labels, space_annotations),
            pools=reversed(POOLS),
            default="default",
        )

    assert (found(4), found(6)) == wanted


def test_a_pod_may_insist() -> None:
    """Then the default pool is no answer."""
    strict = {"ipam.cilium.io/require-pool-match": "true"}
    with pytest.raises(NotReadyError, match="no CiliumPodIPPool with IPv4 selects"):
        choose(4, pod=({}, strict), namespace=({}, {}), pools=POOLS, default="default")
    web = ({"app": "web"}, strict)
    assert choose(4, pod=web, namespace=({}, {}), pools=POOLS, default="default") == "b-web"


# Which address


def test_a_full_pool_is_asked_for_more_and_leaks_nothing() -> None:
    """A full family gives the other one back; a pod wishes once, however often it asks."""
    allocator = PoolAllocator("default", {})
    allocator.set_pools([SMALL], [])
    for owner in "ab":
        allocator.allocate(owner, BOTH)
    with pytest.raises(NoAddressError, match=r"pool blue \(IPv4\), pool blue \(IPv6\)"):
        allocator.allocate("c sandbox1", BOTH, "c")
    with pytest.raises(NoAddressError):
        allocator.allocate("c sandbox2", BOTH, "c")
    assert allocator.needs()["blue", 4] == 3
    more = NodePool("blue", (*SMALL.cidrs, ip_network("10.10.0.8/30")))
    allocator.set_pools([more], [])
    with pytest.raises(NoAddressError, match=r"^pool blue \(IPv6\)$"):
        allocator.allocate("c sandbox3", BOTH, "c")
    assert [u for _, _, u, _ in allocator.usage()] == [2, 2, 0]
    assert allocator.allocate("c sandbox4", {4: "blue"}, "c").ipv4 == IPv4Address("10.10.0.10")
    assert not allocator.waiting


def test_blocks_that_are_empty_and_not_needed_are_given_up() -> None:
    """The last ones first; closed at once; never with a pod or the router in it."""
    allocator = PoolAllocator("default", {"default": 2})
    cidrs = tuple(map(ip_network, ("10.0.0.0/29", "10.0.0.8/29", "10.0.0.16/29")))
    pools = [NodePool("default", cidrs), NodePool("blue", (ip_network("10.10.0.0/30"),))]
    allocator.set_pools(pools, [IPv4Address("10.0.0.1")])
    every = {c for p in pools for c in p.cidrs}
    pods = [allocator.allocate(str(n), {4: "default"}) for n in range(6)]
    assert str(pods[-1].ipv4) == "10.0.0.9"
    # 7 in use and 2 ahead, in steps of 2: 10 of 18
    assert allocator.has_surplus()
    assert allocator.surplus(every) == {cidrs[2], ip_network("10.10.0.0/30")}
    assert not allocator.has_surplus()
    with pytest.raises(NoAddressError):
        allocator.allocate("late", {4: "blue"})
    for number, pod in enumerate(pods):
        allocator.release(pod, str(number))
    allocator.set_pools([NodePool("default", cidrs[:2])], [IPv4Address("10.0.0.1")])
    assert allocator.surplus(every) == {cidrs[1]}
    allocator.set_pools([NodePool("default", cidrs[:1])], [IPv4Address("10.0.0.1")])
    assert not allocator.surplus(every)
    assert {p for _, p, _, _ in allocator.usage()} == {cidrs[0]}


def test_a_block_that_is_gone_stays_until_its_last_pod() -> None:
    """No new address of it; back before that it is as any other."""
    allocator = PoolAllocator("default", {})
    allocator.set_pools([SMALL], [])
    pair = allocator.allocate("a", BOTH)
    allocator.set_pools([], [])
    with pytest.raises(NoAddressError):
        allocator.allocate("b", BOTH)
    allocator.set_pools([SMALL], [])
    other = allocator.allocate("b", BOTH)
    assert set(pair).isdisjoint(other)
    allocator.set_pools([], [])
    for owner, one in (("a", pair), ("b", other)):
        allocator.release(one, owner)
    assert allocator.usage() == []


def test_restored_addresses_are_claimed_in_any_pool() -> None:
    """What is in no block is told, and takes nothing."""
    allocator = PoolAllocator("default", {})
    allocator.set_pools([SMALL], [])
    wanted = AddressPair(IPv4Address("10.10.0.2"), IPv6Address("fd00:10::1"))
    assert allocator.claim("a", wanted) == wanted
    with pytest.raises(NotFoundError, match=r"fd00:99::1 of b is in no block"):
        allocator.claim("b", AddressPair(IPv4Address("10.10.0.1"), IPv6Address("fd00:99::1")))
    assert set(allocator.owners().values()) == {"a"}


def test_the_default_pool_is_needed_for_the_node_itself() -> None:
    """Also when nothing is to be kept ready of it."""
    allocator = PoolAllocator("default", {"blue": 4})
    assert allocator.needs() == {
        ("blue", 4): 4, ("blue", 6): 4, ("default", 4): 1, ("default", 6): 1,
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_address_has_two_owners(data: st.DataObject) -> None:
    """Whatever comes and goes: each pod's pair stays its own, and blocks in use are never given
    up; once all that was asked for is there, nobody waits."""
    kinds = st.sampled_from(["add", "add", "del", "grant", "tidy"])
    allocator = PoolAllocator("default", {"default": 2})
    pools = {n: PodIPPool(n, family(f"10.{i}.0.0/24", 30), None)
             for i, n in enumerate(("default", "blue"))}  # fmt: skip
    have: tuple[NodePool, ...] = ()
    pods: dict[str, AddressPair] = {}

    def grant() -> tuple[NodePool, ...]:
        asked = tuple(Request(n, c) for (n, v), c in allocator.needs().items() if v == 4)
        found = plan([NodeNeeds("n", asked, have)], pools.values())
        assert not found.errors
        return found.assignments.get("n", have)

    for step, kind in enumerate(data.draw(st.lists(kinds, max_size=40))):
        if kind == "add":
            name = data.draw(st.sampled_from(["default", "blue"]))
            try:
                pods[str(step)] = allocator.allocate(str(step), {4: name})
            except NoAddressError:
                continue
        elif kind == "del" and pods:
            owner = data.draw(st.sampled_from(sorted(pods)))
            allocator.release(pods.pop(owner), owner)
        elif kind == "grant":
            have = grant()
            allocator.set_pools(have, [])
        elif kind == "tidy":
            gone = allocator.surplus({c for p in have for c in p.cidrs})
            have = tuple(NodePool(p.name, tuple(c for c in p.cidrs if c not in gone)) for p in have)
            allocator.set_pools(have, [])
        held = [a for pair in pods.values() for a in pair]
        assert len(held) == len(set(held))
        assert all(any(a in c for p in have for c in p.cidrs) for a in held)
    have = grant()
    allocator.set_pools(have, [])
    for wish in list(allocator.waiting):
        allocator.allocate(wish, {4: allocator.waiting[wish][0][0]})
    # What was just granted is not given up again: no to and fro.
    have = grant()
    allocator.set_pools(have, [])
    before = {c for p in have for c in p.cidrs}
    left = before - allocator.surplus(before)
    assert all(any(a in c for c in left) for pair in pods.values() for a in pair)
    have = tuple(NodePool(p.name, tuple(c for c in p.cidrs if c in left)) for p in have)
    allocator.set_pools(have, [])
    assert grant() == have


# Which block


def test_nodes_get_what_they_need_and_are_told_what_not() -> None:
    """Blocks that anybody holds are nobody else's, in every pool; the rest is said by name."""
    overlapping = PodIPPool("shade", family("10.10.0.0/29", 30), None)
    six = PodIPPool("six", None, family("fd00:6::/64", 80), allow_first=True)
    nodes = [
        NodeNeeds("a", (Request("blue", 3, 1), Request("six", 1, 0)), (SMALL,)),
        NodeNeeds("b", (Request("shade", 1), Request("gone", 1)), others=(OLD,)),
        NodeNeeds("c", (Request("blue", 9),)),
        NodeNeeds("d", (Request("six", 0, 1),), (NodePool("blue", (SMALL.cidrs[0],)),)),
    ]  # fmt: skip
    todo = plan(nodes, [pool("blue"), overlapping, six])
    given = {n: {p.name: list(map(str, p.cidrs)) for p in pools}
             for n, pools in todo.assignments.items()}  # fmt: skip
    assert given["a"]["blue"] == ["10.10.0.0/30", "fd00:10::/126", "10.10.0.4/30"]
    assert "b" not in given
    assert given["c"] == {"blue": ["10.10.0.8/30", "10.10.0.12/30"]}
    assert given["d"]["six"] == ["fd00:6::/80"]
    assert todo.assignments["d"][1].allow_first
    assert todo.errors["a"] == "CiliumPodIPPool six has no ipv4"
    assert "no /30 block left in 10.10.0.0/29" in todo.errors["b"]
    assert "there is no CiliumPodIPPool gone" in todo.errors["b"]
    assert "add a prefix to spec.ipv4.cidrs" in todo.errors["c"]
    assert todo.errors["d"] == "block 10.10.0.0/30 is held by node a"


def test_a_plan_that_is_carried_out_is_done() -> None:
    """The same again changes nothing."""
    node = NodeNeeds("a", (Request("blue", 3, 5),))
    todo = plan([node], [pool("blue")])
    again = plan([NodeNeeds("a", node.requested, todo.assignments["a"])], [pool("blue")])
    assert not again.assignments and not again.errors


# What is read


def obj(kind: str, spec: Any, version: str = "v2alpha1") -> ClusterObject:
    body = {"apiVersion": f"cilium.io/{version}", "kind": kind, "metadata": {"name": "p"}}
    return to_object({**body, "spec": spec}, KindRegistry())


GOOD = {"cidrs": ["10.0.0.0/16"], "maskSize": 24}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, r"spec: has neither"),
        ({"ipv4": 7}, r"spec\.ipv4: must be a mapping"),
        ({"ipv4": {"cidrs": [], "maskSize": 24}}, r"spec\.ipv4\.cidrs: "),
        ({"ipv4": {"cidrs": ["10.0.0.0/16", "10.1.0.1/16"], "maskSize": 24}}, r"cidrs\[1\]: "),
        ({"ipv4": {"cidrs": ["fd00::/64"], "maskSize": 80}}, r"cidrs\[0\]: fd00::/64 is not an"),
        ({"ipv4": {"cidrs": ["10.0.0.0/16"], "maskSize": 8}}, r"maskSize: 8 does not fit 10\."),
        ({"ipv6": {"cidrs": ["fd00::/48"], "maskSize": 112}}, r"maskSize: 112 does not fit fd00"),
        ({"ipv4": {"cidrs": ["10.0.0.0/16"], "maskSize": "24"}}, r"maskSize: '24' is not a number"),
        ({"ipv4": GOOD, "allowFirstIP": "yes"}, r"spec\.allowFirstIP: "),
        ({"ipv4": GOOD, "podSelector": {"matchLabels": 3}}, r"spec\.podSelector\.matchLabels"),
    ],
)
def test_a_bad_pool_is_named_by_field(spec: Any, field: str) -> None:
    """Object and path are in the error."""
    with pytest.raises(InvalidObjectError, match=f"^CiliumPodIPPool p: .*{field}"):
        decode_pool(obj("CiliumPodIPPool", spec))


@pytest.mark.parametrize(
    ("pools", "field"),
    [
        ({"requested": 3}, "requested: must be a list"),
        ({"requested": [{"needed": {}}]}, r"requested\[0\]: must name a pool"),
        ({"requested": [{"pool": "a", "needed": {"ipv6-addrs": -1}}]}, r"needed\.ipv6-addrs"),
        ({"requested": [{"pool": "a", "needed": {"ipv4-addrs": 1 << 40}}]}, "ipv4-addrs"),
        ({"allocated": [{"pool": "a", "cidrs": ["10.0.0.0/24", "x"]}]}, r"\[0\]\.cidrs\[1\]"),
        ({"allocated": [{"cidrs": []}]}, r"allocated\[0\]: must name a pool"),
    ],
)
def test_a_bad_node_is_named_by_field(pools: Any, field: str) -> None:
    """The agent's and the operator's part alike."""
    with pytest.raises(InvalidObjectError, match=rf"CiliumNode p: spec\.ipam\.pools\..*{field}"):
        decode_needs(obj("CiliumNode", {"ipam": {"pools": pools}}, "v2"))


# Keys


def config(**values: Any) -> Config:
    options = OptionRegistry()
    core_options.register(options)
    register(options)
    return Config.load(options, {k.replace("_", "-"): v for k, v in values.items()}, {}, None, None)


def test_pools_to_create_are_read_as_cilium_writes_them() -> None:
    """Blanks or commas between pools, commas between CIDRs; JSON too."""
    text = (
        "default=ipv4-cidrs:10.10.0.0/16,10.20.0.0/16;ipv4-mask-size:27;allow-first-ip:true,"
        "six=ipv6-cidrs:fd00::/64;ipv6-mask-size:80"
    )
    first, second = pools_to_create(text)
    assert first["spec"] == {
        "ipv4": {"cidrs": ["10.10.0.0/16", "10.20.0.0/16"], "maskSize": 27}, "allowFirstIP": True,
    }  # fmt: skip
    assert (second["metadata"], second["spec"]["ipv6"]["maskSize"]) == ({"name": "six"}, 80)
    assert pools_to_create(text.replace("true,", "true ")) == [first, second]
    assert pools_to_create('{"six": "ipv6-cidrs:fd00::/64;ipv6-mask-size:80"}') == [second]
    assert pools_to_create("") == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("auto-create-cilium-pod-ip-pools", "10.0.0.0/8", "ipv4-cidrs:CIDR"),
        ("auto-create-cilium-pod-ip-pools", "a=ipv4-cidrs:10.0.0.0/8", "maskSize"),
        ("auto-create-cilium-pod-ip-pools", "a=ipv4-cidrs:x;ipv4-mask-size:24", r"cidrs\[0\]"),
        ("auto-create-cilium-pod-ip-pools", "a=colour:blue", "not 'colour:blue'"),
        ("auto-create-cilium-pod-ip-pools", "{", "JSON"),
        ("ipam-multi-pool-pre-allocation", "a=-1", "N from 0"),
        ("ipam-multi-pool-pre-allocation", "a=99999", "N from 0"),
        ("ipam-default-ip-pool", "Not A Pool", "a pool's name"),
    ],
)
def test_a_bad_key_is_refused(key: str, value: str, words: str) -> None:
    """By its name, with what is expected."""
    with pytest.raises(ConfigError, match=rf"(?s){key}.*{words}"):
        config(**{key: value})


def test_what_is_kept_ready() -> None:
    """By pool."""
    assert ahead(config()) == {"default": 8}
    assert ahead(config(ipam_multi_pool_pre_allocation="blue=0,red=16")) == {"blue": 0, "red": 16}
