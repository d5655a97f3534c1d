"""``enable-extended-ip-protocols``: protocols without ports meet policy and conntrack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.packet import Raw

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packets import EGRESS, INGRESS, PacketBench

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
PROTOCOLS = {"IPIP": 4, "IPV6": 41, "GRE": 47, "ESP": 50, "VRRP": 112}


@pytest.fixture(scope="module")
def extended(
    compile_cache: Path, registry_of: Callable[..., DatapathRegistry]
) -> Iterator[PacketBench]:
    registry = registry_of("source_check", "policy")
    registry.define("AXO_EXTENDED_PROTOCOLS", True)
    with PacketBench(registry, cache_dir=compile_cache) as bench:
        yield bench


def bare(pod: Any, version: int, to: Any, proto: int) -> Any:
    """A packet of a protocol, with some bytes in it."""
    field = {"proto": proto} if version == 4 else {"nh": proto}
    return pod.frame(version, to, **field) / Raw(bytes(16))


@FAMILIES
@pytest.mark.parametrize("name", PROTOCOLS)
def test_policy_decides_by_protocol(
    extended: PacketBench,
    populate: Callable[..., PacketBench],
    a: Any,
    b: Any,
    version: int,
    name: str,
) -> None:
    """Refused without a rule; with one for it and no other; the answer is a reply."""
    populate(extended, a, b)
    proto = PROTOCOLS[name]
    sent = bare(a, version, b, proto)
    assert extended.run("from_container", sent, ifindex=a.ifindex).drop == "POLICY"
    for subject, direction in ((a, EGRESS), (b, INGRESS)):
        extended.rule(subject.identity, direction, proto=proto)
    assert extended.run("from_container", sent, ifindex=a.ifindex).drop == ""
    other = bare(a, version, b, 50 if proto != 50 else 47)
    assert extended.run("from_container", other, ifindex=a.ifindex).drop == "POLICY"
    answer = bare(b, version, a, proto)
    assert extended.run("from_container", answer, ifindex=b.ifindex).drop == ""


def test_ah_of_ipv4(
    extended: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any
) -> None:
    """A protocol of its own in IPv4."""
    populate(extended, a, b)
    for subject, direction in ((a, EGRESS), (b, INGRESS)):
        extended.rule(subject.identity, direction, proto=51)
    sent = bare(a, 4, b, 51)
    assert extended.run("from_container", sent, ifindex=a.ifindex).drop == ""


@FAMILIES
def test_others_stay_unknown(
    extended: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any, version: int
) -> None:
    """What the list does not name is dropped whatever policy says."""
    populate(extended, a, b)
    for subject, direction in ((a, EGRESS), (b, INGRESS)):
        extended.rule(subject.identity, direction)
    sent = bare(a, version, b, 89)
    assert extended.run("from_container", sent, ifindex=a.ifindex).drop == "CT_UNKNOWN_PROTO"
