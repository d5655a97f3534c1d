"""The fixed record ``struct axo_event``, bound by field name to what the compiler reports.

Field names and units: ``bpf/include/axo/events.h``.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from attrs import frozen

from axoneme.core.datapath.layouts import Layout
from axoneme.core.datapath.typed import Codec, network
from axoneme.core.events.model import CT_STATES, EGRESS, INGRESS, Event, EventType, IPAddress

STRUCT: Final = "axo_event"
_MAPPED: Final = bytes(10) + b"\xff\xff"


@frozen
class Record:
    """The C struct as it is. ``saddr`` and ``daddr`` are 16 bytes in network order."""

    type: int
    reason: int
    dir: int
    family: int
    ep_id: int
    proto: int
    tcp_flags: int
    icmp_code: int
    verdict: int
    match_type: int
    ct_state: int
    src_identity: int
    dst_identity: int
    ifindex: int
    len: int
    cookie: int
    src_id: int
    dst_id: int
    ktime_ns: int
    saddr: bytes
    daddr: bytes
    sport: int = network()
    dport: int = network()


class RecordDecoder:
    """Bytes to events, with the words of the X-macro headers.

    ``drops``, ``points`` and ``matches`` map numbers to words.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        drops: Mapping[int, str],
        points: Mapping[int, str],
        matches: Mapping[int, str],
    ) -> None:
        Codec(Record, layout)  # refuses a struct with other fields, sizes or holes
        self.size = layout.size
        self._names, self._struct = _unpacker(layout)
        self._drops = dict(drops)
        self._points = dict(points)
        self._matches = dict(matches)

    def decode(
        self, raw: bytes, kind: str = "", words: Mapping[int, str] | None = None
    ) -> Event | None:
        """An event; ``None`` for what is too short to be one.

        A plugin's type gives its ``kind`` and its own ``words`` for reasons.
        """
        if len(raw) < self.size:
            return None
        record = dict(zip(self._names, self._struct.unpack_from(raw), strict=True))
        kind, text, allowed, match = self._meaning(record, kind, words)
        family = record["family"]
        return Event(
            type=record["type"],
            kind=kind,
            reason=record["reason"],
            text=text,
            time=record["ktime_ns"] / 1e9 + boot_time(),
            direction=EGRESS if record["dir"] else INGRESS,
            endpoint=record["ep_id"],
            source=_address(record["saddr"], family),
            destination=_address(record["daddr"], family),
            source_port=int.from_bytes(record["sport"], "big"),
            destination_port=int.from_bytes(record["dport"], "big"),
            protocol=record["proto"],
            tcp_flags=record["tcp_flags"],
            icmp_code=record["icmp_code"],
            source_identity=record["src_identity"],
            destination_identity=record["dst_identity"],
            source_endpoint=record["src_id"],
            destination_endpoint=record["dst_id"],
            ifindex=record["ifindex"],
            length=record["len"],
            cookie=record["cookie"],
            allowed=allowed,
            match=match,
            ct_state=CT_STATES.get(record["ct_state"], f"state-{record['ct_state']}"),
            id=f"{record['ktime_ns']:x}",
        )

    def _meaning(
        self, record: Mapping[str, Any], kind: str, words: Mapping[int, str] | None
    ) -> tuple[str, str, bool | None, str]:
        """(kind, text, allowed, match)."""
        type_, reason = record["type"], record["reason"]
        if words is not None:
            return kind, words.get(reason, f"reason {reason}"), None, ""
        if type_ == EventType.TRACE:
            return "trace", self._points.get(reason, f"point {reason}"), None, ""
        text = self._drops.get(reason, f"reason {reason}") if reason else ""
        if type_ == EventType.VERDICT:
            number = record["match_type"]
            match = self._matches.get(number, f"match {number}")
            return "policy-verdict", text, bool(record["verdict"]), match
        return "drop", text, None, ""


def _unpacker(layout: Layout) -> tuple[tuple[str, ...], struct.Struct]:
    """Names and a struct for all fields at once: some 3 µs an event, a model's way takes 10.

    Numbers in network order stay bytes.
    """
    names, codes = [], "="
    for field in layout.fields:
        if field.padding:
            codes += f"{field.size}x"
            continue
        big = field.name in ("sport", "dport")
        number = field.kind == "scalar" and not big
        codes += _CODES[field.size] if number else f"{field.size}s"
        names.append(field.name)
    return tuple(names), struct.Struct(codes)


_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}


def _address(raw: bytes, family: int) -> IPAddress | None:
    if family == 4 and raw[:12] == _MAPPED:
        return IPv4Address(raw[12:])
    return IPv6Address(raw) if family == 6 else None


_boot = (0.0, 0.0)


def boot_time() -> float:
    """What to add to CLOCK_MONOTONIC for the time of day; looked at again every second."""
    global _boot  # noqa: PLW0603 - a cache of two numbers
    monotonic = time.monotonic()
    if monotonic > _boot[0]:
        _boot = (monotonic + 1.0, time.time() - monotonic)
    return _boot[1]
