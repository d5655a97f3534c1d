"""Connections that the kernel tracks now, as pairs of addresses."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from axoneme.core.api import dump
from axoneme.core.datapath.maps import BpfMap
from axoneme.plugins.fqdn.sockets import Address


def connections(maps: Mapping[str, BpfMap]) -> set[tuple[str, Address]]:
    """Who has opened a flow to whom. Blocks: call it in a thread."""
    found = [maps[name] for name in dump.CONNTRACK if name in maps]
    return {
        (str(row["source"]["address"]), ip_address(str(row["destination"]["address"])))
        for row in dump.conntrack(found)
    }
