"""Which prefixes an identity stands for, and which family of world it belongs to.

A node with both families knows the world of each; with one family there is only ``world``, which
then is the world of that family.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from axoneme.core.model.identity import Identity, Reserved, reserved_labels
from axoneme.core.model.labels import CIDR, RESERVED, LabelSet

EVERY_IPV4: Final = IPv4Network("0.0.0.0/0")
EVERY_IPV6: Final = IPv6Network("::/0")

BOTH: Final = (4, 6)

_WORLDS: Final[tuple[tuple[str, tuple[IPv4Network | IPv6Network, ...]], ...]] = (
    (Reserved.WORLD_IPV4.label, (EVERY_IPV4,)),
    (Reserved.WORLD_IPV6.label, (EVERY_IPV6,)),
    (Reserved.WORLD.label, (EVERY_IPV4, EVERY_IPV6)),
)
"""What addresses stand for that no rule's prefix covers, by their label; the narrower first."""


def prefixes_of(
    identity: Identity, families: Collection[int] = BOTH
) -> tuple[IPv4Network | IPv6Network, ...]:
    """What an identity stands for: the prefix of its ``cidr`` label, else its world; else nothing.

    Raises :class:`ValueError` for a label that is no prefix.
    """
    found = []
    for label in identity.labels:
        if label.source == CIDR:
            found.append(ip_network(label.key.replace("-", ":")))
    # Should a label set name covering prefixes too, the narrowest one is what it stands for.
    if found:
        return tuple(sorted(found, key=lambda p: p.prefixlen)[-1:])
    for word, prefixes in _WORLDS:
        if identity.labels.get(RESERVED, word) is not None:
            return tuple(p for p in prefixes if p.version in families)
    return ()


def facts_of(
    identity: Identity, families: Collection[int] = BOTH
) -> tuple[LabelSet, tuple[IPv4Network | IPv6Network, ...]]:
    """What selectors see of an identity; a label that a stranger wrote makes no prefix."""
    try:
        return labels_of(identity, families), prefixes_of(identity, families)
    except ValueError:
        return identity.labels, ()


def labels_of(identity: Identity, families: Collection[int] = BOTH) -> LabelSet:
    """The labels that selectors see: with one family, ``world`` is that family's world too."""
    if len(families) > 1 or identity.labels.get(RESERVED, "world") is None:
        return identity.labels
    versions = {p.version for p in prefixes_of(identity, families)}
    added = reserved_labels(Reserved.WORLD_IPV4 if 4 in versions else Reserved.WORLD_IPV6)
    return LabelSet.of([*identity.labels, *added]) if versions else identity.labels
