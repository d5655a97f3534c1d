"""How many addresses a node asks for, and how many a block has. Pure; agent and operator agree."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

Prefix = IPv4Network | IPv6Network


def needed(used: int, ahead: int) -> int:
    """Addresses that a node with ``used`` ones should have, to keep at least ``ahead`` ready.

    In steps of ``ahead``, so that not every pod is a new request.
    """
    return used if ahead <= 0 else (-(-used // ahead) + 1) * ahead


def bounds(block: Prefix, *, allow_first: bool, allow_last: bool) -> tuple[int, int]:
    """The first offset in a block that pods may have, and the one behind the last.

    A block of one or two addresses has no others to spare.
    """
    size = block.num_addresses
    if size <= 2:
        return 0, size
    return (0 if allow_first else 1), (size if allow_last else size - 1)


def capacity(block: Prefix, *, allow_first: bool, allow_last: bool) -> int:
    """Addresses of a block that can be in use."""
    first, end = bounds(block, allow_first=allow_first, allow_last=allow_last)
    return end - first
