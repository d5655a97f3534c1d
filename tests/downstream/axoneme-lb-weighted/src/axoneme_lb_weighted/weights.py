"""Weights of the backends of services that choose the algorithm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from attrs import frozen

from axoneme.core.model.balancing import Backend, ServicePort

NAME: Final = "weighted"
NODES: Final = "weighted.example.com/nodes"
MOST: Final = 64
HIGHEST: Final = 1000


@frozen
class Weights:
    """Row of table ``lb_weighted``. Key: ``set``. ``sums`` are running ones, by slot."""

    set: int
    sums: tuple[int, ...]


def parse(text: str) -> dict[str, int]:
    """``node1=3, node2=1``; what cannot be read is left out."""
    found = {}
    for part in text.split(","):
        node, _, weight = part.strip().partition("=")
        if weight.isdecimal() and int(weight) <= HIGHEST:
            found[node] = int(weight)
    return found


def weights(rows: Iterable[ServicePort]) -> Iterator[Weights]:
    """The rows of all sets that are to be weighed."""
    for row in rows:
        if row.algorithm == NAME:
            by_node = parse(dict(row.annotations).get(NODES, ""))
            for number, chosen in ((row.set_all, row.chosen), (row.set_local, row.chosen_local)):
                if 0 < len(chosen) <= MOST:
                    yield Weights(number, tuple(accumulate(_weight(b, by_node) for b in chosen)))


def _weight(backend: Backend, by_node: dict[str, int]) -> int:
    return by_node.get(backend.node, 1)
