"""Identities as the packet path knows them, read from its pinned maps.

The proxy asks the kernel, not the agent: it answers while there is none.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from axoneme.core.datapath.maps import BpfMap
from axoneme.core.errors import AxonemeError
from axoneme.plugins.fqdn.sockets import Address

ENDPOINTS: Final = "axo_endpoints"
IPCACHE: Final = "axo_ipcache"

_MAPPED = bytes(10) + b"\xff\xff"


class Identities:
    """Looks addresses up. ``folder`` holds the pins; ``offsets`` where the identity stands in the
    values of both maps, from the layouts that the agent knows."""

    def __init__(self, folder: Path, offsets: dict[str, int]) -> None:
        self._folder = folder
        self._offsets = offsets
        self._maps: dict[str, BpfMap] = {}

    def of(self, address: Address) -> int:
        """The identity of an address; 0 when the kernel knows none."""
        raw = _in16(address)
        return self._find(ENDPOINTS, raw) or self._find(IPCACHE, struct.pack("=I", 128) + raw)

    def of_endpoint(self, address: Address) -> int:
        """The identity of an endpoint of this node; 0 for others."""
        return self._find(ENDPOINTS, _in16(address))

    def _find(self, name: str, key: bytes) -> int:
        try:
            if name not in self._maps:
                self._maps[name] = BpfMap.open(self._folder / name)
            value = self._maps[name].lookup(key)
        except (AxonemeError, OSError):
            self._maps.pop(name, None)
            return 0
        if value is None:
            return 0
        found: int = struct.unpack_from("=I", value, self._offsets[name])[0]
        return found

    def reopen(self) -> None:
        """Pins may have been replaced: open the maps anew when they are needed."""
        while self._maps:
            self._maps.popitem()[1].close()


def _in16(address: Address) -> bytes:
    """Network order, IPv4 as ``::ffff:a.b.c.d``."""
    return _MAPPED + address.packed if isinstance(address, IPv4Address) else address.packed
