"""Connections that the kernel remembers, as flows that policy can be asked about.

Conntrack keeps an entry for a while after its connection has ended, until a collection takes it:
what was seen a moment ago is still there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from axoneme.core.api import dump
from axoneme.core.datapath.maps import BpfMap
from axoneme.plugins.policy.diff import Flow, Tip
from axoneme.plugins.policy.explain import Packet
from axoneme.plugins.policy.l4 import ICMP, ICMPV6

MAX_FLOWS: Final = 50_000
MAX_SECONDS: Final = 600.0
"""How long ago a connection may have ended."""
_ECHO: Final = {ICMP: 8, ICMPV6: 128}
"""Conntrack knows an echo's number, not its type."""
_NUMBERS: Final = {name: number for number, name in dump.PROTOCOLS.items()}

Then = Callable[[str, int], int]
"""The identity that an address would have, given the one that it had."""
Naming = Callable[[str], str]


def recorded(maps: Iterable[BpfMap]) -> list[dict[str, Any]]:
    """Entries of the conntrack tables, ended ones too. Blocking."""
    now = time.clock_gettime(time.CLOCK_MONOTONIC) / dump.TICK_SECONDS
    rows: list[dict[str, Any]] = []
    for bpf_map in maps:
        for entry in dump.entries(bpf_map)["entries"]:
            left = (entry["value"]["expires"] - now) * dump.TICK_SECONDS
            if left > -MAX_SECONDS and len(rows) < MAX_FLOWS:
                rows.append(dump.flow(entry["key"], entry["value"], now) | {"left": left})
    return rows


def flows_of(rows: Iterable[Mapping[str, Any]], then: Then, name: Naming) -> list[Flow]:
    """Connections as flows, each once whatever the opener's port was."""
    found: dict[Any, Flow] = {}
    for row in rows:
        number = _NUMBERS.get(row["protocol"]) or int(row["protocol"])
        port = _ECHO.get(number, row["destination"]["port"])
        source, destination = (
            _tip(row[side], row[f"{side}-identity"], then, name)
            for side in ("source", "destination")
        )
        flow = Flow(source, destination, Packet(number, port), _state(row), _ago(row))
        key = source.address, destination.address, flow.packet, source.identity
        if key not in found or flow.seconds <= found[key].seconds:
            found[key] = flow
    return list(found.values())


def _tip(side: Mapping[str, Any], identity: int, then: Then, name: Naming) -> Tip:
    address = str(side["address"])
    return Tip(address, int(side["port"]), identity, then(address, identity), name(address))


def _state(row: Mapping[str, Any]) -> str:
    if row["left"] < 0:
        return "ended"
    return "closing" if row["closing"] else "open"


def _ago(row: Mapping[str, Any]) -> float:
    return max(0.0, -float(row["left"]))
