"""BPF maps for readers: any entry decoded by its C layout, conntrack and ipcache in words.

Reading a map blocks and can be long, so callers run these functions in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from axoneme.core.datapath.layouts import Field, Layout
    from axoneme.core.datapath.maps import BpfMap

MAX_ENTRIES: Final = 100_000
"""Entries of one answer; more are counted but left out."""

TICK_SECONDS: Final = (1 << 30) / 1e9
"""Ticks of conntrack are 2^30 ns of CLOCK_MONOTONIC."""

PROTOCOLS: Final = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
CONNTRACK: Final = ("axo_ct4", "axo_ct6", "axo_ct_any4", "axo_ct_any6")

_FIRST_1: Final = 0x01  # AXO_CT_FLAG_FIRST_1
_NON_SYN: Final = 0x02
_CLOSED: Final = 0x0C
_MAPPED: Final = bytes(10) + b"\xff\xff"
_MAC_BYTES: Final = 6
_ADDRESS_BYTES: Final = 16


def map_view(name: str, bpf_map: BpfMap, *, path: str = "") -> dict[str, Any]:
    """A line of ``axoneme map list``; sizes in bytes."""
    info = bpf_map.info
    return {
        "name": name,
        "type": info.type_name,
        "id": info.id,
        "key-size": info.key_size,
        "value-size": info.value_size,
        "max-entries": info.max_entries,
        "path": path,
    }


def entries(bpf_map: BpfMap) -> dict[str, Any]:
    """Every entry: ``{"entries": [{"key", "value"}], "left-out": n}``."""
    definition = bpf_map.definition
    rows: list[dict[str, Any]] = []
    left_out = 0
    for key, value in bpf_map.items():
        if len(rows) >= MAX_ENTRIES:
            left_out += 1
            continue
        if definition is None or definition.key_desc is None or definition.value_desc is None:
            rows.append({"key": key.hex(), "value": value.hex()})
            continue
        slots = bpf_map.cpu_values(value) if bpf_map.percpu else [value]
        rows.append(
            {
                "key": decode(definition.key, key),
                "value": _sum([decode(definition.value, slot) for slot in slots]),
            }
        )
    return {"entries": rows, "left-out": left_out}


def decode(layout: Layout, raw: bytes) -> Any:
    """A struct as a dict without its padding; a bare number as a number."""
    if len(layout.fields) == 1 and layout.fields[0].name == "":
        return _value(layout.fields[0], raw)
    return {
        field.name: _value(field, raw[field.offset : field.offset + field.size])
        for field in layout.fields
        if not field.padding and not field.hidden
    }


def _value(field: Field, raw: bytes) -> Any:
    if field.count:
        size = field.size // field.count
        if size == 1 and field.count == _MAC_BYTES:
            return raw.hex(":")
        return [_one(field, raw[i * size : (i + 1) * size]) for i in range(field.count)]
    return _one(field, raw)


def _one(field: Field, raw: bytes) -> Any:
    if field.struct is not None:
        if len(raw) == _ADDRESS_BYTES and field.struct.name.endswith("axo_addr"):
            return address_text(raw)
        return decode(field.struct, raw)
    if "port" in field.name and len(raw) == 2:
        return int.from_bytes(raw, "big")  # every port of ours is in network byte order
    if field.name in ("addr", "ip", "saddr", "daddr") and len(raw) == 4:
        return str(IPv4Address(raw))
    return int.from_bytes(raw, "little", signed=field.signed)


def address_text(raw: bytes) -> str:
    """Text of a 16-byte address; ``""`` when it is all zero."""
    if raw == bytes(16):
        return ""
    return str(IPv4Address(raw[12:]) if raw[:12] == _MAPPED else IPv6Address(raw))


def _sum(values: list[Any]) -> Any:
    """Values of all CPUs as one: numbers are added, the rest is of the first CPU."""
    first = values[0]
    if isinstance(first, int):
        return sum(values)
    if isinstance(first, dict):
        return {key: _sum([value[key] for value in values]) for key in first}
    return first


def ipcache_prefix(key: dict[str, Any]) -> IPv4Network | IPv6Network:
    """The prefix of a decoded key; IPv4 /n has 96 + n bits."""
    text = key["ip"] or "::"
    bits = int(key["prefixlen"])
    if ":" not in text:
        return ip_network(f"{text}/{bits - 96}", strict=False)
    return ip_network(f"{text}/{bits}", strict=False)


def ipcache(bpf_map: BpfMap) -> list[dict[str, Any]]:
    """What the kernel holds: prefix, identity, node."""
    rows = [
        {
            "prefix": str(ipcache_prefix(entry["key"])),
            "identity": entry["value"]["identity"],
            "tunnelendpoint": entry["value"]["node_ip"] or "0.0.0.0",
            "flags": entry["value"]["flags"],
        }
        for entry in entries(bpf_map)["entries"]
    ]
    return sorted(rows, key=lambda row: (":" in row["prefix"], row["prefix"]))


def conntrack(maps: Iterable[BpfMap]) -> list[dict[str, Any]]:
    """Entries that have not expired, each seen from the side that opened the flow."""
    now = time.clock_gettime(time.CLOCK_MONOTONIC) / TICK_SECONDS
    rows = []
    for bpf_map in maps:
        for entry in entries(bpf_map)["entries"]:
            if entry["value"]["expires"] >= now:
                rows.append(flow(entry["key"], entry["value"], now))
    return rows


def flow(key: dict[str, Any], value: dict[str, Any], now: float) -> dict[str, Any]:
    """One conntrack entry. Direction 0 goes from ``addr[0]``, which is the smaller side."""
    a = 1 if value["flags"] & _FIRST_1 else 0
    b = 1 - a
    return {
        "protocol": PROTOCOLS.get(key["proto"], str(key["proto"])),
        "source": {"address": key["addr"][a], "port": key["port"][a]},
        "destination": {"address": key["addr"][b], "port": key["port"][b]},
        "source-identity": value["identity"][a],
        "destination-identity": value["identity"][b],
        "expires-seconds": round(max(0.0, (value["expires"] - now) * TICK_SECONDS), 1),
        "packets": value["packets"][a],
        "bytes": value["bytes"][a],
        "reply-packets": value["packets"][b],
        "reply-bytes": value["bytes"][b],
        "tcp-flags-seen": value["tcp_seen"][a],
        "reply-tcp-flags-seen": value["tcp_seen"][b],
        "flags": value["flags"],
        "seen-non-syn": bool(value["flags"] & _NON_SYN),
        "closing": bool(value["flags"] & _CLOSED),
        "proxy-port": value.get("proxy_port", 0),
    }
