"""Where the API servers are: nodes and addresses outside that carry ``reserved:kube-apiserver``.

Their addresses are those behind the Service ``kubernetes`` of namespace ``default``, which the API
servers keep themselves. A node that has one of them is told of it; any other address gets the label
beside what else is known of it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from axoneme.core.errors import ExhaustedError
from axoneme.core.identities.prefixes import PrefixLabels
from axoneme.core.ipcache.ipcache import Address, Prefix, host_prefix
from axoneme.core.model.node import Node
from axoneme.core.nodes.identities import APISERVER, NodeIdentities
from axoneme.core.state import Changes, Table
from axoneme.plugins.policy.referents import ServiceName, SliceRow

log = logging.getLogger(__name__)

SERVICE: Final = ("default", "kubernetes")
SOURCE: Final = "kube-apiserver"


class ApiServers:
    """Follows the slices of the service and the nodes; lives on the loop's thread."""

    def __init__(
        self,
        slices: Table[ServiceName, SliceRow],
        nodes: Table[str, Node],
        identities: NodeIdentities,
        prefixes: PrefixLabels,
        families: Collection[int],
    ) -> None:
        self._slices = slices
        self._nodes = nodes
        self._identities = identities
        self._prefixes = prefixes
        self._families = families
        self._of_slice: set[ServiceName] = set()
        self._outside: set[Prefix] = set()
        slices.subscribe(self._slices_changed)
        nodes.subscribe(self._nodes_changed)

    @property
    def addresses(self) -> frozenset[Address]:
        """Every address of an API server, of the families that are on."""
        rows = self._slices.find("service", SERVICE)
        every = (a for row in rows for a in row.addresses)
        return frozenset(a for a in every if a.version in self._families)

    def _slices_changed(self, changes: Changes[ServiceName, SliceRow]) -> None:
        keys = {k for k, row in changes.upserted.items() if row.service == SERVICE}
        if keys or self._of_slice & (changes.deleted.keys() | changes.upserted.keys()):
            self._of_slice = {(r.namespace, r.name) for r in self._slices.find("service", SERVICE)}
            self._settle()

    def _nodes_changed(self, changes: Changes[str, Node]) -> None:
        if self._of_slice:
            self._settle()

    def _settle(self) -> None:
        addresses = self.addresses
        self._identities.set_apiservers(addresses)
        of_nodes = {a for node in self._nodes.rows() for a in node.addresses}
        outside = {host_prefix(a) for a in addresses - of_nodes}
        self._prefixes.drop(SOURCE, self._outside - outside)
        self._outside &= outside
        try:
            self._prefixes.put(SOURCE, dict.fromkeys(outside, frozenset({APISERVER})))
            self._outside = outside
        except ExhaustedError as error:
            log.error("addresses of API servers have no identity: %s", error)
