"""The ipcache: which identity stands behind a prefix, and on which node."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import frozen


@frozen
class IpcacheEntry:
    """Row of table ``ipcache``. Key: ``prefix``. Longest prefix wins in the kernel."""

    prefix: IPv4Network | IPv6Network
    identity: int
    node_ip: IPv4Address | IPv6Address | None = None
    """Underlay address of the node that it belongs to; ``None`` for what is local or outside."""
    source: str = ""
    """Where it comes from: ``endpoint``, ``node``, ``cidr``, ``reserved``."""
    direct: bool = False
    """An underlay address of that node: reached as it is, through no tunnel."""
