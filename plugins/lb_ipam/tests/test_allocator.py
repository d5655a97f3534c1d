"""Who gets which address: the rules one by one, then any mix of them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.plugins.lb_ipam.allocator import Allocator
from axoneme.plugins.lb_ipam.decode import NAME_LABEL, NAMESPACE_LABEL, decode_pool
from axoneme.plugins.lb_ipam.rows import Pool, Request
from axoneme.plugins.lb_ipam.sharing import why_not


def pool(name: str, *blocks: Any, created: str = "2026-01-01", **spec: Any) -> Pool:
    """A pool as it would be decoded; a block is a CIDR, or a pair of ends."""
    listed = [{"cidr": b} if isinstance(b, str) else {"start": b[0], "stop": b[1]} for b in blocks]
    body = {
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"blocks": listed, **spec},
    }
    found = decode_pool(
        ClusterObject(ObjectKey("CiliumLoadBalancerIPPool", "", name), "", body=body)
    )
    assert not found.problem, found.problem
    return found


def service(name: str, *requested: str, **fields: Any) -> Request:
    """A request; ``name`` may have a namespace, ``present`` are addresses in its status."""
    space, _, short = name.rpartition("/")
    space = space or "default"
    labels = {**fields.pop("labels", {}), NAMESPACE_LABEL: space, NAME_LABEL: short}
    present = tuple(ip_address(a) for a in fields.pop("present", ()))
    return Request(
        (space, short),
        fields.pop("created", "2026-01-01"),
        labels,
        requested=tuple(ip_address(a) for a in requested),
        present=present,
        given=frozenset(present),
        ports=frozenset(fields.pop("ports", [(80, "TCP")])),
        namespaces=frozenset(fields.pop("namespaces", ())),
        **fields,
    )


class World:
    """An allocator and what it was told."""

    def __init__(self, *pools: Pool) -> None:
        self.allocator = Allocator()
        self.allocator.set_pools(pools)

    def add(self, *services: Request) -> None:
        self.allocator.update(services)

    def got(self, name: str) -> list[str]:
        space, _, short = name.rpartition("/")
        return [str(a) for a in self.allocator.outcomes[space or "default", short].addresses]

    def why(self, name: str) -> str:
        space, _, short = name.rpartition("/")
        return self.allocator.outcomes[space or "default", short].reason


def test_both_families_from_the_oldest_pool() -> None:
    """One address of each family that is wanted; the older pool first, ends included."""
    world = World(
        pool("a-new", "10.0.1.0/24", created="2026-02-01"),
        pool("z-old", "10.0.0.0/24", "fd00::/64"),
    )
    world.add(service("web", families=(4, 6)))
    assert world.got("web") == ["10.0.0.0", "fd00::"]
    assert world.why("web") == "satisfied"


def test_ends_of_cidrs_can_be_kept_back() -> None:
    """Not those of ranges, nor of CIDRs that have nothing else."""
    world = World(pool("p", "10.0.0.0/30", ("10.0.1.0", "10.0.1.0"), "10.0.2.0/31",
                       allowFirstLastIPs="No"))  # fmt: skip
    world.add(*(service(f"s{i}") for i in range(6)))
    assert [world.got(f"s{i}") for i in range(6)] == [
        ["10.0.0.1"], ["10.0.0.2"], ["10.0.1.0"], ["10.0.2.0"], ["10.0.2.1"], [],
    ]  # fmt: skip
    assert world.why("s5") == "out_of_ips"
    assert world.allocator.book.usage("p") == (5, 5)


def test_what_one_leaves_another_one_gets() -> None:
    """Whoever waits longest is served when an address is free again."""
    world = World(pool("p", ("10.0.0.1", "10.0.0.1")))
    world.add(*(service(name, created=name) for name in ("3", "2", "1")))
    assert [world.got(name) for name in "123"] == [["10.0.0.1"], [], []]
    assert world.why("2") == world.why("3") == "out_of_ips"
    assert world.allocator.update((), [("default", "1")]) == {("default", "2")}
    assert (world.got("2"), world.got("3")) == (["10.0.0.1"], [])


def test_selectors_know_namespace_and_name() -> None:
    """A pool for one tenant, and one for a label; no pool for others."""
    world = World(
        pool("tenant", "10.0.0.0/24", serviceSelector={"matchLabels": {NAMESPACE_LABEL: "a"}}),
        pool("blue", "10.0.1.0/24", serviceSelector={
            "matchExpressions": [{"key": "color", "operator": "In", "values": ["blue"]}]}),
    )  # fmt: skip
    world.add(service("a/x"), service("b/x", labels={"color": "blue"}), service("c/x"))
    assert [world.got(n) for n in ("a/x", "b/x", "c/x")] == [["10.0.0.0"], ["10.0.1.0"], []]
    assert world.why("c/x") == "no_pool"


@pytest.mark.parametrize(
    ("wanted", "reason", "words"),
    [
        (("10.9.0.1",), "no_pool", "10.9.0.1 is in no pool"),
        (("10.0.1.5",), "no_pool", "disabled"),
        (("10.0.2.5",), "pool_selector_mismatch", "red"),
        (("10.0.3.0",), "no_pool", "10.0.3.0/24"),
        (("10.0.0.5",), "already_allocated", "default/first"),
        (("fd00::1",), "ip_family_mismatch", "fd00::1"),
        (("10.0.0.6", "10.9.0.1"), "no_pool", "10.9.0.1"),
    ],
)
def test_why_an_address_is_not_given(wanted: tuple[str, ...], reason: str, words: str) -> None:
    """Each reason has its word, and the message names address and obstacle."""
    world = World(
        pool("p", "10.0.0.0/24", "fd00::/64"),
        pool("off", "10.0.1.0/24", disabled=True),
        pool("red", "10.0.2.0/24", serviceSelector={"matchLabels": {"color": "red"}}),
        pool("kept", "10.0.3.0/24", allowFirstLastIPs="No"),
    )
    world.add(service("first", "10.0.0.5"))
    world.add(service("second", *wanted))
    outcome = world.allocator.outcomes["default", "second"]
    assert outcome.reason == reason and words in outcome.message
    assert [str(a) for a in outcome.addresses] == [w for w in wanted if w == "10.0.0.6"]


def test_who_asks_for_an_address_comes_before_who_takes_any() -> None:
    """Read at once, in whatever order: the wish does not clash with a chance pick."""
    world = World(pool("p", "10.0.0.0/24"))
    world.add(service("any", created="2025-01-01"), service("picky", "10.0.0.0"))
    assert (world.got("picky"), world.got("any")) == (["10.0.0.0"], ["10.0.0.1"])


def test_a_younger_pool_in_conflict_gives_nothing_more() -> None:
    """It keeps what it gave, and is used again when the older one is gone."""
    old, new = pool("old", "10.0.0.0/25"), pool("new", "10.0.0.64/25", created="2026-02-01")
    world = World(new)
    world.add(service("a"), service("b"))
    assert (world.got("a"), world.got("b")) == (["10.0.0.0"], ["10.0.0.1"])
    world.allocator.set_pools([old, new])
    assert "10.0.0.0/25 of pool old" in world.allocator.book.conflicts["new"]
    assert world.got("a") == ["10.0.0.0"]
    big = pool("new", "10.0.0.0/24", created="2026-02-01")
    world.allocator.set_pools([old, big])
    world.add(service("wish", "10.0.0.200"))
    assert world.why("wish") == "no_pool"
    world.allocator.set_pools([big])
    assert world.got("wish") == ["10.0.0.200"] and not world.allocator.book.conflicts


def test_a_pool_at_odds_with_itself() -> None:
    """Blocks of one pool may not overlap either."""
    world = World(pool("p", "10.0.0.0/24", ("10.0.0.7", "10.0.0.9")))
    assert "the same pool" in world.allocator.book.conflicts["p"]


def test_changed_pools_move_only_who_has_to() -> None:
    """Inside stays, outside is served anew; a disabled pool keeps and gives nothing."""
    world = World(pool("p", "10.0.0.0/24"))
    world.add(service("a", created="1"), service("b", created="2"))
    world.allocator.set_pools([pool("p", ("10.0.0.1", "10.0.0.9"))])
    assert (world.got("a"), world.got("b")) == (["10.0.0.2"], ["10.0.0.1"])
    world.allocator.set_pools([pool("p", ("10.0.0.1", "10.0.0.9"), disabled=True)])
    world.add(service("c"))
    assert (world.got("a"), world.got("c"), world.why("c")) == (["10.0.0.2"], [], "no_pool")
    world.allocator.set_pools([])
    assert (world.got("a"), world.why("a")) == ([], "no_pool")


def test_addresses_of_a_pool_that_nobody_can_read_stay() -> None:
    """Those that are surely ours; others in no pool are not adopted."""
    allocator = Allocator()
    allocator.set_pools([], keep_unknown=True)
    ours = service("ours", present=["10.0.0.7"])
    theirs = evolve(service("theirs", present=["10.0.0.8"]), given=frozenset())
    allocator.update([ours, theirs])
    assert [str(a) for a in allocator.outcomes["default", "ours"].addresses] == ["10.0.0.7"]
    assert not allocator.outcomes["default", "theirs"].addresses
    allocator.set_pools([pool("p", "10.0.0.0/24")])
    assert [str(a) for a in allocator.outcomes["default", "ours"].addresses] == ["10.0.0.7"]


def test_a_service_that_cannot_be_read_keeps_what_it_has() -> None:
    """And gets nothing new, until it is right again."""
    world = World(pool("p", "10.0.0.0/24"))
    bad = evolve(service("a", present=["10.0.0.3"]), problem=("invalid_ip", "field: 'x'"))
    world.add(bad, evolve(service("b"), problem=("invalid_ip", "field: 'x'")))
    assert (world.got("a"), world.got("b"), world.why("b")) == (["10.0.0.3"], [], "invalid_ip")
    world.add(service("a"), service("b"))
    assert (world.got("a"), world.got("b")) == (["10.0.0.3"], ["10.0.0.0"])


SHARED = {"sharing_key": "k", "ports": [(1, "TCP")]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ""),
        ({"ports": [(1, "UDP")]}, ""),
        ({"ports": [(2, "TCP"), (1, "TCP")]}, "1/TCP"),
        ({"sharing_key": "j"}, "sharing key"),
        ({"sharing_key": ""}, "sharing key"),
        ({"local": True}, "externalTrafficPolicy"),
        ({"name": "other/b"}, "namespace"),
        ({"name": "other/b", "namespaces": ["*"]}, "namespace"),
    ],
)
def test_sharing_needs_agreement(fields: dict[str, Any], words: str) -> None:
    """What two services have to have in common, and what they must not."""
    one = service("a", **SHARED)
    more = {"ports": [(2, "TCP")], "sharing_key": "k", **fields}
    other = service(more.pop("name", "b"), **more)
    assert words in why_not(one, other) and bool(words) == bool(why_not(one, other))
    assert bool(why_not(other, one)) == bool(words)


def test_sharing_over_namespaces_and_with_local_policy() -> None:
    """Both have to permit the other's namespace; Local needs the same pods."""
    one = service("x/a", namespaces=["y"], **SHARED)
    assert not why_not(one, service("y/b", sharing_key="k", namespaces=["*"], ports=[(2, "TCP")]))
    assert why_not(one, service("y/b", sharing_key="k", namespaces=["z"], ports=[(2, "TCP")]))
    local = {"local": True, "sharing_key": "k", "selector": {"app": "a"}}
    here = service("a", **local)
    assert not why_not(here, service("b", **{**local, "ports": [(2, "TCP")]}))
    other = {**local, "selector": {"app": "b"}, "ports": [(2, "TCP")]}
    assert "pods" in why_not(here, service("b", **other))


def test_sharing_takes_a_second_address_only_when_it_must() -> None:
    """Ports that clash lead to another address of the set, which later ones may use too."""
    world = World(pool("p", "10.0.0.0/24"))
    for number, port in enumerate((80, 443, 80, 443, 8080)):
        world.add(service(f"s{number}", sharing_key="k", ports=[(port, "TCP")]))
    assert [world.got(f"s{i}") for i in range(5)] == [
        ["10.0.0.0"], ["10.0.0.0"], ["10.0.0.1"], ["10.0.0.1"], ["10.0.0.0"],
    ]  # fmt: skip
    world.add(service("wish", "10.0.0.0", sharing_key="k", ports=[(80, "TCP")]))
    assert world.why("wish") == "already_allocated_incompatible_service"
    world.add(service("s4", ports=[(8080, "TCP")]))
    assert world.got("s4") == ["10.0.0.2"]
    assert world.allocator.book.usage("p") == (256, 3)


def test_consent_given_later_lets_a_waiting_one_in() -> None:
    """A service that waits for an address of another gets it when that one agrees."""
    world = World(pool("p", ("10.0.0.1", "10.0.0.1")))
    world.add(service("a", ports=[(1, "TCP")]))
    world.add(service("b", sharing_key="k", ports=[(2, "TCP")]))
    assert world.why("b") == "out_of_ips"
    world.add(service("a", sharing_key="k", ports=[(1, "TCP")]))
    assert world.got("b") == ["10.0.0.1"]


def test_a_required_family_that_is_off() -> None:
    """The other one is given; the condition says what is missing."""
    world = World(pool("p", "10.0.0.0/24"))
    world.add(service("a", families=(4,), lacking=(6,)))
    assert (world.got("a"), world.why("a")) == (["10.0.0.0"], "ip_family_disabled")


# Any mix

ADDRESSES = [f"10.0.0.{i}" for i in range(12)]
pools_of = st.lists(
    st.builds(
        lambda name, first, size, off, label, created: pool(
            name, (ADDRESSES[first], ADDRESSES[min(first + size, 11)]), disabled=off,
            created=created, serviceSelector={"matchLabels": {"l": label} if label else {}},
        ),
        st.sampled_from("pqr"), st.integers(0, 11), st.integers(0, 5), st.booleans(),
        st.sampled_from(["", "", "x"]), st.sampled_from("12"),
    ),
    max_size=3, unique_by=lambda p: p.name,
)  # fmt: skip
services_of = st.builds(
    lambda name, space, wish, key, port, local, label, spaces, created: service(
        f"{space}/{name}", *wish, sharing_key=key, ports=[(port, "TCP")], local=local,
        labels={"l": label}, namespaces=spaces, selector={"a": "b"}, created=created,
    ),
    st.sampled_from("abcdef"), st.sampled_from(["m", "n"]),
    st.lists(st.sampled_from(ADDRESSES), max_size=2), st.sampled_from(["", "k"]),
    st.integers(1, 3), st.booleans(), st.sampled_from("xy"), st.sampled_from([(), ("*",), ("m",)]),
    st.sampled_from("123"),
)  # fmt: skip
steps = st.lists(
    st.one_of(pools_of, st.lists(services_of, min_size=1, max_size=4), st.sampled_from("abcdef")),
    max_size=14,
)


def check(allocator: Allocator) -> None:
    """What holds after every step."""
    holders: dict[Any, list[Request]] = {}
    for name, request in allocator.requests.items():
        outcome = allocator.outcomes[name]
        assert set(outcome.addresses) == set(allocator.held.get(name, ()))
        for address in outcome.addresses:
            block = allocator.book.find(address)
            assert block is not None and block.pool.selector.matches(request.labels)
            assert not request.requested or address in request.requested
            holders.setdefault(address, []).append(request)
        if outcome.satisfied:
            assert len(outcome.addresses) == (len(set(request.requested)) or 1)
        assert (name in allocator.waiting) != outcome.satisfied
    for address, sharers in holders.items():
        assert set(allocator.holders[address]) == {r.name for r in sharers}
        for i, one in enumerate(sharers):
            assert not any(why_not(one, other) for other in sharers[i + 1 :])
    assert set(holders) == set(allocator.holders)
    used = {a for p in allocator.book.used.values() for b in p.blocks for a in b.used}
    assert used == {int(a) for a in holders}


@settings(max_examples=400, deadline=None)
@given(steps)
def test_nobody_is_given_what_is_not_theirs(done: list[Any]) -> None:
    """After any history: in a pool that fits, shared only by consent; a restart moves nothing."""
    allocator = Allocator()
    pools: list[Pool] = []
    for step in done:
        if isinstance(step, str):
            allocator.update((), [n for n in allocator.requests if n[1] == step])
        elif step and isinstance(step[0], Request):
            allocator.update({r.name: r for r in step}.values())
        else:
            pools = step
            allocator.set_pools(pools)
        check(allocator)
    again = Allocator()
    again.set_pools(pools)
    again.update(
        evolve(r, present=allocator.held.get(n, ())) for n, r in allocator.requests.items()
    )
    check(again)
    for name, addresses in allocator.held.items():
        assert set(addresses) <= set(again.held[name])
