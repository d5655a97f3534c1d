"""Node blocks out of the cluster's pools. Pure: the operator's side of cluster-pool IPAM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from axoneme.core.errors import ExhaustedError
from axoneme.core.ipam.blocks import BlockPool, Prefix
from axoneme.core.model.node import Node


@frozen
class Plan:
    """What to write: new pod CIDRs by node, and why a node cannot have (all of) its own."""

    assignments: Mapping[str, tuple[Prefix, ...]]
    errors: Mapping[str, str]


def plan(nodes: Iterable[Node], pools: Iterable[BlockPool], held: Iterable[Prefix] = ()) -> Plan:
    """Give a block of each pool to every node that has none of its family.

    ``nodes`` in the order in which they are to be served; the pools must be new. What nodes hold
    already stays theirs, also when it is from another pool or clashes: pods live in it. ``held`` is
    what others hold who are not to be served.
    """
    nodes, pools = list(nodes), list(pools)
    for prefix in held:
        for pool in pools:
            pool.occupy(prefix)
    errors: dict[str, str] = {}
    holders: dict[Prefix, str] = {}
    for node in nodes:
        for prefix in node.pod_cidrs:
            holder = holders.setdefault(prefix, node.name)
            if holder != node.name:
                errors[node.name] = f"pod CIDR {prefix} is held by node {holder}"
            for pool in pools:
                pool.occupy(prefix)
    assignments: dict[str, tuple[Prefix, ...]] = {}
    for node in nodes:
        got = list(node.pod_cidrs)
        have = {p.version for p in got}
        for pool in pools:
            if pool.version in have:
                continue
            try:
                got.append(pool.allocate())
            except ExhaustedError as error:
                errors[node.name] = str(error)
        if len(got) > len(node.pod_cidrs):
            assignments[node.name] = tuple(got)
    return Plan(assignments, errors)
