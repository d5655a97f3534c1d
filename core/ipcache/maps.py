"""Models of ``axo_ipcache``, bound by name to ``bpf/include/axo/maps.h``."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import frozen

from axoneme.core.datapath.typed import prefix_bits
from axoneme.core.model.ipcache import IpcacheEntry

DIRECT: Final = 1
"""``AXO_IPCACHE_DIRECT``: an underlay address of the node, reached as it is."""


@frozen
class IpcacheKey:
    """``struct axo_ipcache_key``: IPv4 /n has the prefix length 96 + n."""

    prefixlen: int
    ip: IPv4Address | IPv6Address


@frozen
class IpcacheValue:
    """``struct axo_ipcache``."""

    identity: int
    node_ip: IPv4Address | IPv6Address | None
    flags: int = 0


def encode_entry(row: IpcacheEntry) -> tuple[IpcacheKey, IpcacheValue]:
    """The entry of a prefix."""
    key = IpcacheKey(prefix_bits(row.prefix), row.prefix.network_address)
    return key, IpcacheValue(row.identity, row.node_ip, DIRECT if row.direct else 0)
