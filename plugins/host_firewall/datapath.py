"""The host firewall's part of the packet path: stages, constants, rows to entries."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from axoneme.core.datapath.typed import network

if TYPE_CHECKING:
    from axoneme.core.datapath.registry import DatapathRegistry

SOURCE: Final = Path(__file__).with_name("host_firewall.bpf.c")
GUARD_MAP: Final = "axo_host_guard"
API_SERVER: Final = 1
"""Why an entry is there."""

_STAGES: Final = {
    "host_ingress": "host_firewall_ingress",
    "host_egress": "host_firewall_egress",
    "host_unparsed": "host_firewall_unparsed",
}


def register(datapath: DatapathRegistry) -> None:
    """Judge what is for this node and what it sends."""
    for point, function in _STAGES.items():
        datapath.stage(point, function, SOURCE)


@frozen
class Guarded:
    """Row of table ``host_guard``: a TCP port that this node may always reach. Key: all of it."""

    address: IPv4Address | IPv6Address
    port: int
    """Host order."""


@frozen
class GuardKey:
    """``struct axo_host_guard_key``."""

    ip: IPv4Address | IPv6Address
    port: int = network()


@frozen
class GuardValue:
    """``struct axo_host_guard``."""

    why: int


def encode(row: Guarded) -> tuple[GuardKey, GuardValue]:
    """Entry of ``axo_host_guard``."""
    return GuardKey(row.address, row.port), GuardValue(API_SERVER)
