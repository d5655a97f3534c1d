"""NAT mappings as the API hands them out."""

from __future__ import annotations

from typing import Any, Final

from axoneme.plugins.masquerade.rows import CLOSING, HOST, Direction, NatEntry, NatKey

PROTOCOLS: Final = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}


def mapping_row(key: NatKey, entry: NatEntry, now: int) -> dict[str, Any]:
    """One mapping; ``now`` in seconds of CLOCK_MONOTONIC."""
    return {
        "protocol": PROTOCOLS.get(key.proto, str(key.proto)),
        "direction": "OUT" if key.dir == Direction.OUT else "IN",
        "source": {"address": str(key.saddr), "port": key.sport},
        "destination": {"address": str(key.daddr), "port": key.dport},
        "translated": {"address": str(entry.addr), "port": entry.port},
        "host": bool(entry.flags & HOST),
        "closing": bool(entry.flags & CLOSING),
        "age-seconds": max(now - entry.created, 0),
        "expires-seconds": entry.expires - now,
    }
