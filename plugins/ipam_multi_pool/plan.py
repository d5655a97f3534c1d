"""The operator's decision: which blocks nodes get. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import evolve, frozen

from axoneme.core.errors import ExhaustedError
from axoneme.core.ipam.blocks import BlockPool
from axoneme.core.model.node import NodePool
from axoneme.core.nodes.objects import MAX_BLOCKS
from axoneme.plugins.ipam_multi_pool.demand import capacity
from axoneme.plugins.ipam_multi_pool.tables import FAMILIES, KIND, NodeNeeds, PodIPPool, Prefix


@frozen
class Plan:
    """What to write: blocks by node, and why a node cannot have all that it needs."""

    assignments: Mapping[str, tuple[NodePool, ...]]
    errors: Mapping[str, str]


class _Carver:
    """The free blocks of all pools; a block that anybody has is free in none."""

    def __init__(self, pools: Iterable[PodIPPool]) -> None:
        self.pools = {pool.name: pool for pool in pools}
        self._free = {
            (pool.name, version): BlockPool(
                family.cidrs, family.size, hint=f"add a prefix to spec.{name}.cidrs"
            )
            for pool in self.pools.values()
            for version, name in FAMILIES.items()
            if (family := pool.family(version)) is not None
        }

    def occupy(self, block: Prefix) -> None:
        """Somebody has it."""
        for free in self._free.values():
            free.occupy(block)

    def take(self, name: str, version: int) -> Prefix:
        """A block that is free; ``ExhaustedError``."""
        block = self._free[name, version].allocate()
        self.occupy(block)
        return block


def plan(
    nodes: Iterable[NodeNeeds], pools: Iterable[PodIPPool], held: Iterable[Prefix] = ()
) -> Plan:
    """Give nodes the blocks that they lack, in the order of their names.

    What a node has stays its own until it gives it up, whatever its pool says by now. ``held`` is
    what others hold who are not to be served.
    """
    nodes, carver = sorted(nodes, key=lambda n: n.name), _Carver(pools)
    errors: dict[str, list[str]] = {}
    holders: dict[Prefix, str] = {}
    for block in held:
        carver.occupy(block)
    for node in nodes:
        for block in node.blocks:
            carver.occupy(block)
            holder = holders.setdefault(block, node.name)
            if holder != node.name:
                errors.setdefault(node.name, []).append(f"block {block} is held by node {holder}")
    assignments: dict[str, tuple[NodePool, ...]] = {}
    for node in nodes:
        got, problems = _serve(node, carver)
        if got != node.pools:
            assignments[node.name] = got
        if problems:
            errors.setdefault(node.name, []).extend(problems)
    return Plan(assignments, {name: "; ".join(texts) for name, texts in errors.items()})


def _serve(node: NodeNeeds, carver: _Carver) -> tuple[tuple[NodePool, ...], list[str]]:
    """The node's pools with what it needs, and what could not be had."""
    got = {pool.name: pool for pool in node.pools}
    problems: list[str] = []
    for request in node.requested:
        pool = carver.pools.get(request.pool)
        if pool is None:
            problems.append(f"there is no {KIND} {request.pool}")
            continue
        mine = got.get(pool.name) or NodePool(pool.name, (), pool.allow_first, pool.allow_last)
        for version, name in FAMILIES.items():
            lacking = request.needed(version) - _room(mine, version)
            if lacking > 0 and pool.family(version) is None:
                problems.append(f"{KIND} {pool.name} has no {name}")
                continue
            try:
                while lacking > 0:
                    if sum(len(p.cidrs) for p in {**got, pool.name: mine}.values()) >= MAX_BLOCKS:
                        raise ExhaustedError(f"the node has {MAX_BLOCKS} blocks, which is the most")
                    block = carver.take(pool.name, version)
                    mine = evolve(mine, cidrs=(*mine.cidrs, block))
                    lacking = request.needed(version) - _room(mine, version)
            except ExhaustedError as error:
                problems.append(f"{KIND} {pool.name}: {error}")
        if mine.cidrs:
            got[pool.name] = mine
    return tuple(got.values()), problems


def _room(pool: NodePool, version: int) -> int:
    return sum(
        capacity(c, allow_first=pool.allow_first, allow_last=pool.allow_last)
        for c in pool.cidrs
        if c.version == version
    )
