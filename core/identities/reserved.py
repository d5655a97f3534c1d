"""The reserved identities as table rows, and the world of each address family."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from axoneme.core.model.identity import Identity, Reserved, reserved_labels
from axoneme.core.model.labels import CIDR, Label, LabelSet


def reserved_identities() -> list[Identity]:
    """Rows of all reserved identities but 0, which is no identity."""
    return [
        Identity(int(r), reserved_labels(r), "reserved") for r in Reserved if r != Reserved.UNKNOWN
    ]


def reserved_by_labels(labels: LabelSet) -> int | None:
    """The number behind a label set that stands for a reserved identity."""
    for reserved in Reserved:
        if reserved != Reserved.UNKNOWN and labels == reserved_labels(reserved):
            return int(reserved)
    return None


def world_identity(version: int, *, dual_stack: bool) -> Reserved:
    """World of an address family: split by family on dual stack, one number otherwise."""
    if not dual_stack:
        return Reserved.WORLD
    return Reserved.WORLD_IPV4 if version == 4 else Reserved.WORLD_IPV6


def cidr_label(prefix: IPv4Network | IPv6Network) -> Label:
    """The label of a prefix that a policy names.

    A colon cannot stand in a label's key, so IPv6 is written with dashes, as Cilium does.
    """
    return Label(CIDR, str(prefix).replace(":", "-"))


def world_labels(version: int, *, dual_stack: bool) -> LabelSet:
    """Labels of the world of an address family."""
    return reserved_labels(world_identity(version, dual_stack=dual_stack))


def cidr_labels(prefix: IPv4Network | IPv6Network, *, dual_stack: bool) -> LabelSet:
    """Labels of a prefix outside the cluster: ``cidr:…`` and its world."""
    return LabelSet.of([cidr_label(prefix), *world_labels(prefix.version, dual_stack=dual_stack)])
