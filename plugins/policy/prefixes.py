"""Which prefixes an identity stands for."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from axoneme.core.model.identity import Identity, Reserved
from axoneme.core.model.labels import CIDR

EVERY_IPV4: Final = IPv4Network("0.0.0.0/0")
EVERY_IPV6: Final = IPv6Network("::/0")

_WORLDS: Final[dict[int, tuple[IPv4Network | IPv6Network, ...]]] = {
    Reserved.WORLD: (EVERY_IPV4, EVERY_IPV6),
    Reserved.WORLD_IPV4: (EVERY_IPV4,),
    Reserved.WORLD_IPV6: (EVERY_IPV6,),
}
"""Who has no prefix of its own in the ipcache: addresses that only the default route covers."""


def prefixes_of(identity: Identity) -> tuple[IPv4Network | IPv6Network, ...]:
    """Prefixes of a ``cidr`` identity, from its labels, and of the worlds; else none."""
    if identity.id in _WORLDS:
        return _WORLDS[identity.id]
    found = []
    for label in identity.labels:
        if label.source == CIDR:
            found.append(ip_network(label.key.replace("-", ":")))
    # Should a label set name covering prefixes too, the narrowest one is what it stands for.
    return tuple(sorted(found, key=lambda p: p.prefixlen)[-1:])
