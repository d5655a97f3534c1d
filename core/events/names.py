"""Names for the numbers in an event, from the agent's tables, at the moment somebody looks.

Everything here may be unknown (a pod that is gone already): then the number stands alone.
Names come from users, so the command line cleans them of control characters when it prints.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from axoneme.core.events.model import Event, IPAddress
from axoneme.core.events.packets import summary
from axoneme.core.model.identity import Reserved, reserved_labels
from axoneme.core.model.labels import K8S, NAMESPACE_KEY, RESERVED, LabelSet
from axoneme.core.state import Table, TableRegistry

RESERVED_NAMES: Final = {int(x): x.label for x in Reserved}


class Names:
    """Looks things up in whatever tables there are."""

    def __init__(self, tables: TableRegistry, node_name: str = "") -> None:
        self._tables = tables
        self.node_name = node_name
        self._nodes: dict[IPAddress, str] = {}
        self._nodes_revision = -1

    def _table(self, name: str) -> Table[Any, Any] | None:
        if name not in self._tables:
            return None
        return self._tables[name]

    def pod(self, endpoint: int, address: IPAddress | None) -> str:
        """``namespace/pod`` by endpoint id, else by address, here or on any node; or nothing."""
        endpoints = self._table("endpoints")
        if endpoints is not None:
            row = endpoints.get(endpoint) if endpoint else None
            if row is None and address is not None:
                row = next(iter(endpoints.find("address", address)), None)
            if row is not None:
                return f"{row.namespace}/{row.pod}" if row.pod else ""
        everywhere = self._table("cluster_endpoints")
        if everywhere is not None and address is not None:
            for found in everywhere.find("address", address):
                return f"{found.namespace}/{found.name}"
        return ""

    def node(self, address: IPAddress | None) -> str:
        """Name of the node that has an address."""
        nodes = self._table("nodes")
        if nodes is None or address is None:
            return ""
        if nodes.revision != self._nodes_revision:
            self._nodes = {a: row.name for row in nodes.rows() for a in row.addresses}
            self._nodes_revision = nodes.revision
        return self._nodes.get(address, "")

    def labels(self, identity: int) -> LabelSet:
        """Labels of an identity; empty when it is not known."""
        if identity in RESERVED_NAMES:
            return reserved_labels(Reserved(identity))
        identities = self._table("identities")
        row = identities.get(identity) if identities is not None else None
        return row.labels if row is not None else LabelSet()

    def identity(self, identity: int) -> str:
        """A short name: ``world``, ``shop: app=web``, ``cidr:192.0.2.0/24``; or nothing."""
        if identity in RESERVED_NAMES:
            return RESERVED_NAMES[identity]
        return short_labels(self.labels(identity))

    def interface(self, index: int) -> str:
        """Name of a device of this node."""
        if not index:
            return ""
        try:
            return socket.if_indextoname(index)
        except OSError:
            return ""

    def rule(self, cookie: int) -> str:
        """Where the policy rule behind a cookie comes from, while it is in force.

        From table ``rules`` (key: the cookie; column ``origin``), which a policy plugin keeps.
        """
        rules = self._table("rules")
        row = rules.get(cookie) if rules is not None else None
        return str(getattr(row, "origin", ""))

    def describe(self, event: Event) -> dict[str, Any]:
        """An event as what JSON can hold, numbers and names beside each other."""
        described: dict[str, Any] = {
            "id": event.id,
            "time": event.time,
            "node": self.node_name,
            "type": event.kind,
            "reason": event.reason,
            "text": event.text,
            "direction": event.direction,
            "endpoint": {"id": event.endpoint, "name": self.pod(event.endpoint, None)},
            "source": self._side(
                event.source, event.source_port, event.source_identity, event.source_endpoint
            ),
            "destination": self._side(
                event.destination,
                event.destination_port,
                event.destination_identity,
                event.destination_endpoint,
            ),
            "protocol": event.protocol,
            "summary": summary(event),
            "interface": {"index": event.ifindex, "name": self.interface(event.ifindex)},
            "length": event.length,
            "ct_state": event.ct_state,
        }
        if event.allowed is not None:
            described["verdict"] = "allowed" if event.allowed else "denied"
            described["match"] = event.match
        if event.cookie:
            described["cookie"] = event.cookie
            described["rule"] = self.rule(event.cookie)
        if event.data:
            described["data"] = dict(event.data)
        return described

    def _side(
        self, address: IPAddress | None, port: int, identity: int, endpoint: int
    ) -> dict[str, Any]:
        side: dict[str, Any] = {
            "address": str(address) if address is not None else "",
            "port": port,
            "identity": identity,
            "identity_name": self.identity(identity),
            "name": self.pod(endpoint, address) or self.node(address),
        }
        if endpoint:
            side["endpoint"] = endpoint
        return side


def short_labels(labels: LabelSet) -> str:
    """What a person tells identities apart by: the namespace and the pod's own labels."""
    namespace = labels.get(K8S, NAMESPACE_KEY) or ""
    own = [
        f"{x.key}={x.value}" if x.value else x.key
        for x in labels
        if x.source == K8S and not x.key.startswith("io.")
    ]
    others = [str(x) for x in labels if x.source not in (K8S, RESERVED)]
    words = ",".join(own or others)
    if not namespace:
        return words
    return f"{namespace}: {words}" if words else namespace
