"""Policies, who may announce what, and never two at once."""

from __future__ import annotations

import asyncio
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6
from scapy.layers.l2 import ARP, Ether

from axoneme.core.devices import Device
from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.plugins.l2_announcements.compute import announcements, lease_name
from axoneme.plugins.l2_announcements.config import Timing
from axoneme.plugins.l2_announcements.election import Candidate
from axoneme.plugins.l2_announcements.greet import frame, group_mac
from axoneme.plugins.l2_announcements.policies import L2Policy, decode_policy

DEVICES = (
    Device("eth0", 2, 1500, "02:00:00:00:00:01"),
    Device("eth1", 3, 1500, "02:00:00:00:00:02"),
)
EXTERNAL, BALANCED = ip_address("192.0.2.1"), ip_address("2001:db8::1")


@frozen
class Service:
    """What is read of a service."""

    name: tuple[str, str] = ("default", "web")
    labels: tuple[tuple[str, str], ...] = (("app", "web"),)
    external_ips: tuple[Any, ...] = (EXTERNAL,)
    balancer_ips: tuple[Any, ...] = (BALANCED,)
    balancer_class: str = ""
    local_out: bool = False


def policy(**spec: Any) -> L2Policy:
    """A policy with this spec."""
    key = ObjectKey("CiliumL2AnnouncementPolicy", "", "one")
    return decode_policy(ClusterObject(key, "cilium.io/v2alpha1", body={"spec": spec}))


def found(service: Service, *policies: L2Policy, local: bool = False) -> set[tuple[str, str]]:
    """Addresses and devices."""
    near = [service.name] if local else []
    rows = announcements([service], policies, {"role": "edge"}, DEVICES, near)
    return {(str(r.address), r.ifname) for r in rows.get(service.name, ())}


def test_a_policy_says_which_addresses_and_where() -> None:
    """By switch, by pattern, by labels of node and service."""
    both = policy(externalIPs=True, loadBalancerIPs=True)
    assert len(found(Service(), both)) == 4
    one = policy(externalIPs=True, interfaces=["^eth0$"])
    assert found(Service(), one) == {("192.0.2.1", "eth0")}
    assert not found(Service(), policy())
    picky = {"externalIPs": True, "serviceSelector": {"matchLabels": {"app": "db"}}}
    assert not found(Service(), policy(**picky))
    elsewhere = {"externalIPs": True, "nodeSelector": {"matchLabels": {"role": "core"}}}
    assert not found(Service(), policy(**elsewhere))
    assert found(Service(), policy(**elsewhere), one) == {("192.0.2.1", "eth0")}


def test_classes_and_local_services() -> None:
    """Another class is another's; Local needs a backend here."""
    both = policy(externalIPs=True, loadBalancerIPs=True)
    assert found(Service(balancer_class="io.cilium/l2-announcer"), both)
    assert not found(Service(balancer_class="example.com/x"), both)
    assert not found(Service(local_out=True), both)
    assert found(Service(local_out=True), both, local=True)
    assert lease_name(("default", "web")) == "cilium-l2announce-default-web"


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"interfaces": "eth0"}, "spec.interfaces"),
        ({"interfaces": ["eth["]}, "spec.interfaces[0]"),
        ({"interfaces": [7]}, "spec.interfaces[0]"),
        ({"externalIPs": "yes"}, "spec.externalIPs"),
        ({"serviceSelector": []}, "spec.serviceSelector"),
    ],
)
def test_a_bad_policy_names_its_field(spec: dict[str, Any], path: str) -> None:
    """And its object."""
    with pytest.raises(InvalidObjectError, match="CiliumL2AnnouncementPolicy one") as caught:
        policy(**spec)
    assert path in str(caught.value)


class Store:
    """A lease as the real stores keep it; it can be out of reach for some."""

    def __init__(self) -> None:
        self.now = 0.0
        self.holder, self.until = "", 0.0
        self.away: set[str] = set()

    async def acquire(self, name: str, duration: float) -> bool:
        """Take or renew."""
        if name in self.away:
            raise OSError("no way to the store")
        if self.holder not in ("", name) and self.now < self.until:
            return False
        self.holder, self.until = name, self.now + duration
        return True

    def candidate(self, name: str) -> Candidate:
        """A node."""
        return Candidate(partial(self.acquire, name), Timing(15, 5, 2))

    def clock(self) -> float:
        """Now."""
        return self.now


VERBS = st.sampled_from(["tick", "cut", "join", "release"])
EVENTS = st.lists(st.tuples(VERBS, st.integers(0, 2), st.floats(0, 6)), max_size=60)


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_there_are_never_two(events: list[tuple[str, int, float]]) -> None:
    """Whoever is cut off from the store, for however long; silence ends a holder's time too."""

    async def run() -> None:
        store, names = Store(), ["a", "b", "c"]
        every = [store.candidate(n) for n in names]
        for verb, which, wait in events:
            store.now += wait
            match verb:
                case "tick":
                    await every[which].tick(store.clock)
                case "cut":
                    store.away.add(names[which])
                case "join":
                    store.away.discard(names[which])
                case "release":
                    if names[which] not in store.away:
                        await every[which].release()
            assert sum(c.check(store.now) for c in every) <= 1

    asyncio.run(run())


def test_a_dead_holder_is_followed_after_its_lease() -> None:
    """And not before."""

    async def run() -> list[bool]:
        store = Store()
        old, new = store.candidate("old"), store.candidate("new")
        await old.tick(store.clock)
        seen = []
        for second in (2, 14, 15.5):
            store.now = second
            seen.append(await new.tick(store.clock))
        return seen

    assert asyncio.run(run()) == [False, False, True]


def test_greetings_are_what_neighbours_understand() -> None:
    """Gratuitous ARP, unsolicited advertisement with right sums."""
    arp = Ether(frame(EXTERNAL, "02:00:00:00:00:01"))
    assert arp.dst == "ff:ff:ff:ff:ff:ff"
    assert arp[ARP].psrc == arp[ARP].pdst == "192.0.2.1"
    raw = frame(BALANCED, "02:00:00:00:00:01")
    na = Ether(raw)
    assert (na.dst, na[IPv6].dst) == ("33:33:00:00:00:01", "ff02::1")
    assert na[ICMPv6ND_NA].tgt == "2001:db8::1"
    fresh = Ether(raw)
    del fresh[ICMPv6ND_NA].cksum
    assert Ether(bytes(fresh))[ICMPv6ND_NA].cksum == na[ICMPv6ND_NA].cksum
    assert group_mac(IPv6Address("2001:db8::1:203")) == bytes.fromhex("3333ff010203")
