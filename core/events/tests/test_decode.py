"""Decoding records: right words, right numbers, and nothing that bytes can break."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axoneme.core.errors import AxonemeError
from axoneme.core.events.model import Event
from axoneme.core.events.registry import EventRegistry

Maker = Callable[..., bytes]

WEB = bytes(10) + b"\xff\xff" + IPv4Address("10.244.1.7").packed
CLIENT = bytes(10) + b"\xff\xff" + IPv4Address("10.244.2.5").packed


def test_drop(registry: EventRegistry, record: Maker) -> None:
    """A drop has its reason in words, both sides, ports in the right byte order, a time."""
    raw = record(
        type=1,
        reason=133,
        dir=0,
        family=4,
        ep_id=2615,
        sport=40312,
        dport=80,
        proto=6,
        tcp_flags=2,
        src_identity=12034,
        dst_identity=26612,
        dst_id=2615,
        len=74,
        ktime_ns=time.monotonic_ns(),
        saddr=CLIENT,
        daddr=WEB,
    )
    event = registry.decode(raw)
    assert event is not None
    assert (event.kind, event.text, event.direction) == ("drop", "Policy denied", "ingress")
    assert (event.source, event.source_port) == (IPv4Address("10.244.2.5"), 40312)
    assert (event.destination, event.destination_port) == (IPv4Address("10.244.1.7"), 80)
    assert (event.source_identity, event.destination_identity) == (12034, 26612)
    assert (event.endpoint, event.destination_endpoint, event.length) == (2615, 2615, 74)
    assert abs(event.time - time.time()) < 1.0
    assert event.dropped
    assert event.allowed is None


def test_verdicts_and_traces(registry: EventRegistry, record: Maker) -> None:
    """An allowed verdict has no reason; a denied one has; a trace names its point."""
    allowed = registry.decode(record(type=5, verdict=1, match_type=2, cookie=9, family=6))
    assert allowed is not None
    assert (allowed.kind, allowed.allowed, allowed.match, allowed.text, allowed.cookie) == (
        "policy-verdict",
        True,
        "L3-L4",
        "",
        9,
    )
    assert allowed.source == IPv6Address("::")
    denied = registry.decode(record(type=5, reason=133, dir=1))
    assert denied is not None
    assert (denied.allowed, denied.text, denied.direction) == (False, "Policy denied", "egress")
    trace = registry.decode(record(type=4, reason=0, ct_state=2))
    assert trace is not None
    assert (trace.kind, trace.text, trace.ct_state) == ("trace", "to-endpoint", "reply")


def test_numbers_without_words_stay_readable(registry: EventRegistry, record: Maker) -> None:
    """A newer packet path may know reasons that we do not: the number is shown."""
    event = registry.decode(record(type=1, reason=231, ct_state=77))
    assert event is not None
    assert (event.text, event.ct_state) == ("reason 231", "state-77")


def test_plugin_type_with_the_fixed_record(registry: EventRegistry, record: Maker) -> None:
    """A plugin that sends the core's record names its type and reasons and is done."""
    registry.add(200, "greeting", reasons={3: "said hello"})
    event = registry.decode(record(type=200, reason=3, family=4, saddr=WEB))
    assert event is not None
    assert (event.kind, event.text, event.type) == ("greeting", "said hello", 200)
    assert event.source == IPv4Address("10.244.1.7")


def test_plugin_type_with_its_own_record(registry: EventRegistry) -> None:
    """A plugin's decoder sees the whole record and may add data of its own."""
    registry.add(
        201,
        "dns",
        decode=lambda raw: Event(type=raw[0], kind="dns", data={"length": len(raw)}),
    )
    event = registry.decode(bytes([201, 1, 2]))
    assert event is not None
    assert event.data == {"length": 3}


def test_failing_decoder_is_counted_not_raised(
    registry: EventRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """A plugin's decoder that fails loses its event, is logged once, and stops nothing."""

    def broken(raw: bytes) -> Event:
        raise IndexError(raw)

    registry.add(202, "broken", decode=broken)
    assert [registry.decode(bytes([202, n])) for n in range(5)] == [None] * 5
    assert registry.malformed == 5
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("number", "name"), [(1, "x"), (199, "x"), (256, "x"), (203, "drop")])
def test_types_and_names_are_guarded(registry: EventRegistry, number: int, name: str) -> None:
    """A plugin cannot take the core's types or names."""
    with pytest.raises(AxonemeError):
        registry.add(number, name)


def test_type_is_taken_once(registry: EventRegistry) -> None:
    """Two plugins with one number is an error that names both."""
    registry.add(200, "first")
    with pytest.raises(AxonemeError, match="first and second"):
        registry.add(200, "second")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(raw=st.binary(max_size=300))
def test_any_bytes_are_an_event_or_nothing(registry: EventRegistry, raw: bytes) -> None:
    """Random bytes never raise and never make more than one event."""
    before = registry.malformed
    event = registry.decode(raw)
    assert isinstance(event, Event) or registry.malformed == before + 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_any_full_record_decodes(registry: EventRegistry, layout, data) -> None:  # type: ignore[no-untyped-def]
    """Any bytes of a full record of a core type decode, whatever the fields hold."""
    body = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    kind = data.draw(st.sampled_from([1, 4, 5]))
    event = registry.decode(bytes([kind]) + body[1:])
    assert event is not None
    assert event.type == kind
