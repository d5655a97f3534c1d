"""Addresses of a node and blocks of a cluster."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axoneme.core.errors import ConflictError, ExhaustedError, NotFoundError
from axoneme.core.ipam.allocator import NodeAllocator
from axoneme.core.ipam.blocks import BlockPool
from axoneme.core.ipam.pool import AddressPool
from axoneme.core.ipam.report import report
from axoneme.core.model.endpoint import AddressPair, AddressRequest
from axoneme.core.status import StatusReport

BOTH = AddressRequest("a/b", ipv4=True, ipv6=True)


def test_network_router_and_broadcast_are_never_given() -> None:
    """A /29 has five addresses for pods: .2 to .6."""
    pool = AddressPool(IPv4Network("10.0.0.0/29"))
    assert pool.capacity == 5
    assert [str(pool.allocate(str(i))) for i in range(5)] == [f"10.0.0.{n}" for n in range(2, 7)]
    with pytest.raises(ExhaustedError, match=r"10\.0\.0\.0/29"):
        pool.allocate("one more")


@pytest.mark.parametrize("prefix", ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.0/32", "fd00::/127"])
def test_tiny_blocks_give_what_they_have(prefix: str) -> None:
    """No size is too small to be handled: few addresses or none, never a wrong one."""
    pool = AddressPool(ip_network(prefix))
    assert pool.capacity == (1 if prefix == "10.0.0.0/30" else 0)


def test_a_released_address_is_the_last_to_return() -> None:
    """The search goes round."""
    pool = AddressPool(IPv4Network("10.0.0.0/29"))
    first = pool.allocate("a")
    assert pool.release(first, "a")
    assert not pool.release(first, "a")
    assert [str(pool.allocate("b")) for _ in range(5)][-1] == str(first)


def test_only_the_holder_can_release() -> None:
    """A late DEL of a pod that is gone must not free another pod's address."""
    pool = AddressPool(IPv4Network("10.0.0.0/29"))
    address = pool.allocate("a")
    assert not pool.release(address, "b")
    assert pool.used == 1


def test_restore_takes_what_was_or_refuses() -> None:
    """The same owner may claim twice; others, reserved and foreign addresses are refused."""
    pool = AddressPool(IPv4Network("10.0.0.0/29"))
    pool.claim(IPv4Address("10.0.0.4"), "a")
    pool.claim(IPv4Address("10.0.0.4"), "a")
    with pytest.raises(ConflictError, match="held by a"):
        pool.claim(IPv4Address("10.0.0.4"), "b")
    with pytest.raises(ConflictError, match="reserved"):
        pool.claim(IPv4Address("10.0.0.1"), "a")
    with pytest.raises(NotFoundError):
        pool.claim(IPv4Address("10.9.0.1"), "a")


def test_half_a_pair_is_given_back() -> None:
    """When IPv6 is exhausted the IPv4 address does not leak."""
    allocator = NodeAllocator()
    allocator.set_prefixes([IPv4Network("10.0.0.0/24"), IPv6Network("fd00::/127")])
    with pytest.raises(ExhaustedError):
        allocator.allocate(BOTH)
    assert [used for _, used, _ in allocator.usage()] == [0, 0]


def test_lost_prefix_lives_until_its_last_address() -> None:
    """New pods get addresses of the new block, old ones keep theirs until they go."""
    allocator = NodeAllocator()
    only4 = AddressRequest("a/b", ipv4=True, ipv6=False)
    allocator.set_prefixes([IPv4Network("10.0.0.0/24")])
    old = allocator.allocate(only4)
    allocator.set_prefixes([IPv4Network("10.0.1.0/24")])
    assert str(allocator.allocate(only4).ipv4) == "10.0.1.2"
    assert len(allocator.usage()) == 2
    allocator.release(old, "a/b")
    allocator.set_prefixes([IPv4Network("10.0.1.0/24")])
    assert len(allocator.usage()) == 1


def test_restored_pair() -> None:
    """Wanted addresses come back as they were."""
    allocator = NodeAllocator()
    allocator.set_prefixes([IPv4Network("10.0.0.0/24")])
    wanted = AddressPair(IPv4Address("10.0.0.9"), None)
    assert allocator.allocate(AddressRequest("x", True, False, wanted)) == wanted


def test_status_line() -> None:
    """The line that operators know from Cilium."""
    allocator = NodeAllocator()
    allocator.set_prefixes([IPv4Network("10.244.1.0/24")])
    allocator.allocate(AddressRequest("a/b", True, False))
    status = StatusReport()
    report(status, allocator)
    assert dict(status.lines)["IPAM"] == "IPv4: 1/253 allocated from 10.244.1.0/24"


@given(st.data())
def test_blocks_never_overlap(data: st.DataObject) -> None:
    """Whatever is occupied and released, what is given is free and inside a pool."""
    pool = BlockPool([IPv4Network("10.0.0.0/22"), IPv4Network("10.0.2.0/23")], 25)
    held: list[Any] = []
    for step in data.draw(st.lists(st.sampled_from(["get", "free"]), max_size=30)):
        if step == "get":
            try:
                block = pool.allocate()
            except ExhaustedError:
                assert len(held) == 8
                continue
            assert not any(block.overlaps(other) for other in held)
            held.append(block)
        elif held:
            pool.release(held.pop(data.draw(st.integers(0, len(held) - 1))))
