"""Which nodes' addresses a service gets. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from attrs import frozen

from axoneme.core.model.selectors import LabelSelector, parse_selector
from axoneme.core.operator.balancers import Address, BalancerService
from axoneme.plugins.node_ipam.rows import BalancerNode

MATCH: Final = ("nodeipam.cilium.io/match-node-labels", "io.cilium.nodeipam/match-node-labels")
NODE: Final = "service.cilium.io/node"
"""An annotation of services, and the label of nodes that has to have its value."""
NODE_SELECTOR: Final = "service.cilium.io/node-selector"
SATISFIED: Final = "satisfied"


@frozen
class Outcome:
    """The addresses, and the condition that says whether they are what was asked for."""

    addresses: tuple[Address, ...] = ()
    reason: str = SATISFIED
    message: str = ""


def choose(
    row: BalancerService,
    nodes: Iterable[BalancerNode],
    local: Collection[str],
    families: tuple[int, ...],
    given: tuple[Address, ...],
) -> Outcome:
    """Addresses of a service.

    ``local``: the nodes with ready endpoints, which count with externalTrafficPolicy Local.
    ``given``: what it has; that stays while what it asks for cannot be read.
    """
    if row.problem:
        return Outcome(given, "invalid_spec", row.problem)
    try:
        wanted = _selectors(row)
    except ValueError as error:
        return Outcome(given, "invalid_selector", str(error))
    matching = [n for n in nodes if n.usable and wanted.matches(n.labels)]
    if row.local:
        matching = [n for n in matching if n.name in local]
    addresses: list[Address] = []
    missing = []
    for version in families:
        found = _of_family(matching, version)
        addresses += found
        missing += [] if found else [f"IPv{version}"]
    return _outcome(row, tuple(addresses), missing, bool(matching))


def _of_family(nodes: list[BalancerNode], version: int) -> list[Address]:
    """External addresses if any of the nodes has one, else internal ones; sorted."""
    external = {a for n in nodes for a in n.external if a.version == version}
    internal = {a for n in nodes for a in n.internal if a.version == version}
    return sorted(external or internal, key=int)


def _outcome(
    row: BalancerService, addresses: tuple[Address, ...], missing: list[str], any_node: bool
) -> Outcome:
    if not any_node:
        where = " with a ready endpoint" if row.local else ""
        return Outcome((), "no_node", f"no ready node{where} matches this service")
    # A service that would like both families is content with one, as it is in one of Kubernetes.
    if not addresses or (missing and row.family_policy == "RequireDualStack"):
        text = " and ".join(missing) or "any family that is switched on"
        return Outcome(addresses, "no_address", f"no matching node has an address of {text}")
    return Outcome(addresses)


def _selectors(row: BalancerService) -> LabelSelector:
    """All annotations that choose nodes, as one selector; ``ValueError`` names the bad one."""
    names = [next((n for n in MATCH if n in row.annotations), "")]
    exposed = NODE_SELECTOR if NODE_SELECTOR in row.annotations else ""
    found = LabelSelector()
    for name in filter(None, [*names, exposed]):
        try:
            more = parse_selector(row.annotations[name])
        except ValueError as error:
            raise ValueError(f"metadata.annotations.{name}: {error}") from None
        found = LabelSelector((*found.requirements, *more.requirements))
    if not exposed and NODE in row.annotations:
        more = LabelSelector.of({NODE: row.annotations[NODE]})
        found = LabelSelector((*found.requirements, *more.requirements))
    return found
