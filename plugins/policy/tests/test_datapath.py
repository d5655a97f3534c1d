"""The target against real kernel maps, and the real program against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP

from axoneme.core.datapath.maps import BpfMap
from axoneme.core.errors import DatapathError, ExhaustedError
from axoneme.core.testing.packets import PacketBench
from axoneme.plugins.policy.datapath import PolicyMaps
from axoneme.plugins.policy.entries import ALLOW, DENY, PolicyKey, PolicyValue
from axoneme.plugins.policy.tables import KNOWN, SubjectPolicy
from axoneme.plugins.policy.tests.policy_reference import Pod, verdict
from axoneme.plugins.policy.tests.strategies import ADDRESSES, PODS, policy_lists
from axoneme.plugins.policy.tests.world import Cluster

pytestmark = pytest.mark.root

SUBJECT = 700


def row(revision: int, entries: dict[PolicyKey, PolicyValue], **more: Any) -> SubjectPolicy:
    return SubjectPolicy(
        SUBJECT, revision, False, False, len(entries), False, dict(entries), **more
    )


def allow(port: int, peer: int = 0, *, deny: bool = False) -> dict[PolicyKey, PolicyValue]:
    bits = 24 if port else 0
    key = PolicyKey(peer, 0, 6 if port else 0, port, bits)
    return {key: PolicyValue(DENY if deny else ALLOW, deny, 5, bits)}


class Maps:
    """A target on the bench's maps, with its bumps counted."""

    def __init__(self, bench: PacketBench, limit: int = 16384) -> None:
        definition = bench.maps["axoscratch_policy"].definition
        assert definition is not None
        self.outer = bench.maps["axo_policy"]
        self.bumps = 0
        self.target = PolicyMaps(
            lambda: self.outer, lambda: (definition.key, definition.value), self.bump, limit
        )

    def bump(self) -> None:
        self.bumps += 1

    def inner_id(self) -> int | None:
        inner: BpfMap | None = self.outer.get_map(SUBJECT.to_bytes(4, "little"))
        if inner is None:
            return None
        with inner:
            return inner.info.id


@pytest.fixture
def maps(bench: PacketBench) -> Iterator[Maps]:
    """An empty ``axo_policy``."""
    bench.reset()
    made = Maps(bench)
    yield made
    made.target.resync({})


def test_a_first_row_is_swapped_in_and_a_change_patches_it(maps: Maps) -> None:
    """The trie stays the same map while changes are safe in place; every write bumps once."""
    first = {**allow(0), **allow(80, 300)}
    assert maps.target.apply({SUBJECT: row(1, first)}, {}) == {}
    assert maps.target.read(SUBJECT) == first
    inner = maps.inner_id()
    second = {**first, **allow(443, 300)}
    del second[PolicyKey(0, 0, 0, 0, 0)]
    assert maps.target.apply({SUBJECT: row(2, second)}, {}) == {}
    assert maps.target.read(SUBJECT) == second
    assert (maps.inner_id(), maps.bumps) == (inner, 2)
    assert (maps.target.swaps, maps.target.patches) == (1, 1)


def test_a_delta_is_enough(maps: Maps) -> None:
    """A row that follows the held one is applied from its delta alone."""
    maps.target.apply({SUBJECT: row(1, allow(0))}, {})
    new = {**allow(0), **allow(80)}
    maps.target.apply({SUBJECT: row(2, new, base=1, upserts=allow(80))}, {})
    assert maps.target.read(SUBJECT) == new
    stale = row(4, allow(80), base=3, upserts=allow(443))  # 3 was never seen here: compare
    maps.target.apply({SUBJECT: stale}, {})
    assert maps.target.read(SUBJECT) == allow(80)


def test_a_change_that_would_open_a_hole_swaps(maps: Maps) -> None:
    """A deny and an allow that go together go in one step."""
    maps.target.apply({SUBJECT: row(1, {**allow(80, deny=True), **allow(80, 300)})}, {})
    inner = maps.inner_id()
    maps.target.apply({SUBJECT: row(2, {**allow(80), **allow(443, 300, deny=True)})}, {})
    assert maps.inner_id() != inner
    assert maps.target.read(SUBJECT) == {**allow(80), **allow(443, 300, deny=True)}


def test_resync_repairs_and_sweeps(maps: Maps) -> None:
    """Leftovers go and live flows are asked again; damage is repaired, the rest is not touched."""
    entries = {**allow(0), **allow(80, 300)}
    maps.target.apply({SUBJECT: row(1, entries), 701: evolve(row(1, {}), identity=701)}, {})
    inner, swaps = maps.inner_id(), maps.target.swaps
    bumps = maps.bumps
    fresh = Maps.__new__(Maps)
    fresh.outer, fresh.bumps = maps.outer, 0
    fresh.target = PolicyMaps(lambda: maps.outer, maps.target._layouts, fresh.bump, 16384)
    assert fresh.target.resync({SUBJECT: row(9, entries)}) == {}
    assert (fresh.inner_id(), fresh.target.swaps, fresh.bumps) == (inner, 0, 1)
    assert fresh.target.read(701) is None
    opened = maps.outer.get_map(SUBJECT.to_bytes(4, "little"))
    assert opened is not None
    with opened:
        opened.delete(next(iter(opened.keys())))
    assert fresh.target.resync({SUBJECT: row(9, entries)}) == {}
    assert fresh.target.read(SUBJECT) == entries
    assert (maps.target.swaps, maps.bumps) == (swaps, bumps)


def test_a_first_pass_asks_live_flows_in_any_case(maps: Maps) -> None:
    """An agent may be killed between a change and the generation: its successor raises it."""
    maps.target.resync({SUBJECT: row(1, allow(0))})
    fresh = Maps.__new__(Maps)
    fresh.outer, fresh.bumps = maps.outer, 0
    fresh.target = PolicyMaps(lambda: maps.outer, maps.target._layouts, fresh.bump, 16384)
    for _ in range(2):
        assert fresh.target.resync({SUBJECT: row(9, allow(0))}) == {}
        assert fresh.bumps == 1


def test_a_generation_that_could_not_be_raised_is_raised_later(maps: Maps) -> None:
    """The full pass after a failure finds all in place and asks live flows nevertheless."""
    maps.target.resync({SUBJECT: row(1, allow(0))})

    def fail() -> None:
        raise DatapathError("no")

    maps.target._bump, works = fail, maps.target._bump
    with pytest.raises(DatapathError):
        maps.target.apply({SUBJECT: row(2, {})}, {})
    maps.target._bump = works
    bumps = maps.bumps
    maps.target.resync({SUBJECT: row(2, {})})
    assert maps.target.read(SUBJECT) == {} and maps.bumps == bumps + 1
    maps.target.resync({SUBJECT: row(2, {})})
    assert maps.bumps == bumps + 1


def known(revision: int, *peers: int) -> SubjectPolicy:
    entries = {PolicyKey(p, 0, 0, 0, 0): PolicyValue(ALLOW, False, 0, 0) for p in peers}
    return evolve(row(revision, entries), identity=KNOWN)


def test_marks_come_last_and_go_first(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mark is there while a subject lacks the peer's entries; a new one disturbs no flow."""
    assert maps.target.apply({KNOWN: known(1, 300), SUBJECT: row(1, allow(0))}, {}) == {}
    assert set(maps.target.read(KNOWN) or ()) == {PolicyKey(300, 0, 0, 0, 0)}
    seen: list[Any] = []
    program = maps.target._program

    def watched(identity: int, wanted: SubjectPolicy) -> bool:
        seen.append((identity, [k.peer for k in maps.target.read(KNOWN) or ()]))
        return program(identity, wanted)

    monkeypatch.setattr(maps.target, "_program", watched)
    change = {KNOWN: known(2, 301), SUBJECT: row(2, allow(0) | allow(80, 301, deny=True))}
    assert maps.target.apply(change, {}) == {}
    assert seen == [(SUBJECT, []), (KNOWN, [])]
    assert [k.peer for k in maps.target.read(KNOWN) or ()] == [301]
    bumps = maps.bumps
    assert maps.target.apply({KNOWN: known(3, 301, 302)}, {}) == {}
    assert maps.bumps == bumps
    assert maps.target.apply({KNOWN: known(4, 302)}, {}) == {}
    assert maps.bumps == bumps + 1


def test_the_program_refuses_who_is_not_known(bench: PacketBench, device: int) -> None:
    """Allowed as anybody, by a subject that denies some: only once policy has met the peer."""
    bench.reset()
    made = Maps(bench)
    bench.endpoint(11, device, SUBJECT, POD4, POD6)
    bench.prefix("10.244.9.1/32", 300)
    key = PolicyKey(0, 1, 0, 0, 0)
    entries = {key: PolicyValue(ALLOW, False, 5, 0, known_only=True)}
    frame = _packet("TCP", 80, (POD4, ""), ("10.244.9.1", ""), 0)
    for revision, (rows, drop) in enumerate(
        [
            ({}, "POLICY"),
            ({KNOWN: known(1, 301)}, "POLICY"),
            ({KNOWN: known(2, 300)}, ""),
        ],
        1,
    ):
        assert made.target.apply({SUBJECT: row(revision, entries), **rows}, {}) == {}
        assert made.target.read(SUBJECT) == entries
        assert bench.run("from_container", frame, ifindex=device).drop == drop
    made.target.resync({})


def test_overflow_locks_the_identity(bench: PacketBench) -> None:
    """Entries that do not fit leave an empty trie, an error that names the key, and a mark."""
    bench.reset()
    small = Maps(bench, limit=4)
    small.target.apply({SUBJECT: row(1, allow(0))}, {})
    many: dict[PolicyKey, PolicyValue] = {}
    for port in range(1, 9):
        many |= allow(port)
    failed = small.target.apply({SUBJECT: row(2, many)}, {})
    assert isinstance(failed[SUBJECT], ExhaustedError)
    assert "bpf-policy-map-max" in str(failed[SUBJECT])
    assert small.target.read(SUBJECT) == {}
    assert small.target.overflowed == {SUBJECT}
    assert small.target.apply({SUBJECT: row(3, allow(0))}, {}) == {}
    assert small.target.read(SUBJECT) == allow(0)
    assert small.target.overflowed == set()
    small.target.resync({})


# The program

POD4, POD6 = "10.244.1.11", "fd00:10:244:1::11"
MAC, HOST_MAC = "02:00:00:00:01:0b", "02:00:00:00:02:0b"


def _addresses() -> list[tuple[Any, str, int]]:
    """Peers with an address on the wire: (peer, address, family)."""
    found: list[tuple[Any, str, int]] = []
    for number, pod in enumerate(PODS, 1):
        found.append((pod, f"10.244.9.{number}", 4))
        found.append((pod, f"fd00:10:244:9::{number:x}", 6))
    return found + [(a, str(a), a.version) for a in ADDRESSES]


def _packet(
    proto: str, port: int, source: tuple[str, str], target: tuple[str, str], flow: int
) -> bytes:
    """One frame; addresses as (IPv4, IPv6); ``flow`` keeps the directions' echoes apart."""
    layers: dict[str, Any] = {
        "TCP": lambda: TCP(sport=1000, dport=port, flags="S"),
        "UDP": lambda: UDP(sport=1000, dport=port),
        "SCTP": lambda: SCTP(sport=1000, dport=port),
        "ICMP": lambda: ICMP(type=port, id=flow),
        "ICMPv6": lambda: ICMPv6EchoRequest(id=flow),
    }
    ip = IP(src=source[0], dst=target[0]) if source[0] else IPv6(src=source[1], dst=target[1])
    return bytes(Ether(src=MAC, dst=HOST_MAC) / ip / layers[proto]())


WIRE = [("TCP", 80), ("TCP", 81), ("TCP", 443), ("UDP", 53), ("SCTP", 80), ("ICMP", 8)]
WIRE += [("ICMPv6", 128)]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.function_scoped_fixture,
    ],
)
@given(listed=policy_lists(3))
def test_the_program_agrees_with_the_reference(
    bench: PacketBench, device: int, listed: list[dict[str, Any]]
) -> None:
    """Packets of every peer through the real program with the real maps get the written verdict.

    Both directions, both families, every protocol with ports, ICMP of both kinds.
    """
    bench.reset()
    cluster = Cluster(PODS)
    for manifest in listed:
        cluster.apply(manifest)
    cluster.engine.flush()
    subject: Pod = PODS[0]
    number = cluster.number(subject)
    entries = dict(cluster.engine.entries(number))
    made = Maps(bench)
    wanted = SubjectPolicy(number, 1, False, False, len(entries), False, entries)
    everybody = known(1, *cluster.numbers.values(), *cluster.prefixes.values(), *range(1, 11))
    assert made.target.apply({number: wanted, KNOWN: everybody}, {}) == {}
    bench.endpoint(11, device, number, POD4, POD6)
    bench.runtime("WORLD_V4", 9)
    bench.runtime("WORLD_V6", 10)
    for prefix, identity in cluster.prefixes.items():
        bench.prefix(str(prefix), identity)
    for peer, address, family in _addresses():
        if isinstance(peer, Pod):
            bench.prefix(f"{address}/{32 if family == 4 else 128}", cluster.number(peer))
    checked = 0
    for peer, address, family in _addresses():
        other = (address, "") if family == 4 else ("", address)
        own = (POD4, "") if family == 4 else ("", POD6)
        node = ("10.244.1.1", "") if family == 4 else ("", "fd00:10:244:1::1")
        for proto, port in WIRE:
            if proto == ("ICMP" if family == 6 else "ICMPv6"):
                continue
            # What no device brought in was made on the node: the sender is the host.
            for flow, (direction, program, ends, sender, came_in) in enumerate(
                (
                    ("egress", "from_container", (own, other), peer, 0),
                    ("ingress", "to_container", (other, own), peer, 9999),
                    ("ingress", "to_container", (node, own), "host", 0),
                )
            ):
                frame = _packet(proto, port, *ends, flow)
                outcome = bench.run(program, frame, ifindex=device, ingress_ifindex=came_in)
                expected = verdict(listed, subject, direction, sender, (proto, port))
                where = direction, sender, proto, port, outcome.drop
                assert (outcome.drop == "") == expected, where
                assert expected or outcome.drop in ("POLICY", "POLICY_DENY"), where
                checked += 1
    assert checked > 150
    made.target.resync({})
