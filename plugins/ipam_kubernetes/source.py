"""From the Kubernetes Node to ``spec.ipam.podCIDRs`` of the CiliumNode. Pure but for what it notes.

Kubernetes never changes a Node's pod CIDRs once it has them; a Node that is registered anew may
get others. While it has none, the node keeps those that it had: pods live in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject
from axoneme.core.status import Health, StatusReport

Prefix = IPv4Network | IPv6Network

MOST: Final = 8
HINT: Final = "does the controller manager run with --allocate-node-cidrs?"


def node_cidrs(node: ClusterObject) -> tuple[Prefix, ...]:
    """``spec.podCIDRs``, else ``spec.podCIDR`` (Kubernetes API, NodeSpec)."""
    where, listed = str(node.key), node.spec.get("podCIDRs")
    if listed is None or listed == []:
        single = node.spec.get("podCIDR")
        return (_network(where, "spec.podCIDR", single),) if single else ()
    if not isinstance(listed, list | tuple):
        raise InvalidObjectError(where, "spec.podCIDRs", "must be a list")
    return tuple(
        _network(where, f"spec.podCIDRs[{index}]", text) for index, text in enumerate(listed[:MOST])
    )


def _network(where: str, field: str, text: object) -> Prefix:
    try:
        return ip_network(str(text))
    except ValueError as error:
        raise InvalidObjectError(where, field, str(error)) from None


class NodeSource:
    """This node's :class:`axoneme.core.nodes.source.IpamSource`."""

    def __init__(self, name: str, families: Sequence[int]) -> None:
        self._name = name
        self._families = tuple(families)
        self._found: tuple[Prefix, ...] = ()
        self._bad = f"Node {name} is not in the store yet"

    def wanted(self, present: Mapping[str, Any], node: ClusterObject | None) -> Mapping[str, Any]:
        """The present one with the pod CIDRs of the Node, if it has any that can be read."""
        if node is None:
            return present
        try:
            self._found, self._bad = node_cidrs(node), ""
        except InvalidObjectError as error:
            self._bad = str(error)
            return present
        return {**present, "podCIDRs": [str(c) for c in self._found]} if self._found else present

    def why_missing(self, families: Sequence[int]) -> str:
        """Names the Node, the field and the families; empty if nothing is missing."""
        have = {c.version for c in self._found}
        missing = " and ".join(f"IPv{v}" for v in families if v not in have)
        if self._bad or not missing:
            return self._bad
        return f"Node {self._name}: spec.podCIDRs: no {missing} prefix yet ({HINT})"

    def router_prefixes(self, prefixes: Sequence[Prefix]) -> Sequence[Prefix]:
        """The first of each family."""
        return prefixes

    def report(self, status: StatusReport) -> None:
        """A component that says what is wrong with the Node."""
        problem = self.why_missing(self._families)
        if problem:
            status.component("ipam-kubernetes", Health.WARNING, problem)
