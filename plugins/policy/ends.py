"""What the ends of a question about policy may be, and which identity each is.

A pod, a node, an address, an entity, a name outside the cluster, or a bare identity. Which of
them a text means is decided here alone; everything comes from the agent's tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen

from axoneme.core.dns_names import peer_matches
from axoneme.core.errors import ApiError
from axoneme.core.identities.reserved import world_identity
from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.identity import LOCAL_SCOPE, Identity, Reserved, reserved_labels
from axoneme.core.model.labels import FQDN, Label, LabelSet
from axoneme.core.model.node import Node
from axoneme.core.model.policy import FqdnPeer, Rule
from axoneme.plugins.policy.explain import Party
from axoneme.plugins.policy.prefixes import facts_of

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.plugins.policy.manager import PolicyManager

IPAddress = IPv4Address | IPv6Address

POD: Final = "pod"
NODE: Final = "node"
ENTITY: Final = "entity"
ADDRESS: Final = "address"
NAME: Final = "name"
IDENTITY: Final = "identity"

ENTITIES: Final = {r.label: r for r in Reserved if r != Reserved.UNKNOWN}
UNMET: Final = 2 * LOCAL_SCOPE - 1
"""Stands for an address that a name would lead to and that nobody has learnt yet."""

_DNS: Final = re.compile(r"(?=.*\.)[a-z0-9_]([-a-z0-9_.]{0,251}[a-z0-9_])?\.?")
_WORKLOAD: Final = re.compile(r"-[a-z0-9]+(-[a-z0-9]+)?")


@frozen
class End:
    """One end. ``node`` is the node that it is on, ``""`` where there is none or nobody knows."""

    kind: str
    name: str
    identity: int
    labels: LabelSet
    addresses: tuple[IPAddress, ...] = ()
    endpoint: int = 0
    """Id, of an endpoint of this node."""
    node: str = ""
    ports: tuple[NamedPort, ...] = ()

    def address(self, family: int) -> IPAddress | None:
        """The address of a family."""
        return next((a for a in self.addresses if a.version == family), None)

    def as_dict(self) -> dict[str, Any]:
        """For the API."""
        return {
            "kind": self.kind,
            "name": self.name,
            "identity": self.identity,
            "labels": self.labels.texts(),
            "addresses": [str(a) for a in self.addresses],
            "endpoint": self.endpoint,
            "node": self.node,
        }


class Ends:
    """Looks ends up in the tables of one agent."""

    def __init__(self, agent: Agent, manager: PolicyManager) -> None:
        self._agent = agent
        self._manager = manager
        self.families = tuple(v for v, on in ((4, agent.ipv4), (6, agent.ipv6)) if on)

    def find(self, text: str, family: int) -> End:
        """The end that ``text`` means, in a family; raises when there is none."""
        word, _, number = text.partition(":")
        if text in ENTITIES:
            return self._entity(text, family)
        if word == IDENTITY and number.isdecimal():
            return self.of_identity(int(number))
        try:
            address = ip_address(text)
        except ValueError:
            pass
        else:
            return self.of_address(address)
        found = self.pod(text) or self._node(text) or self._name(text, family)
        if found is None:
            raise ApiError(
                f"{text!r} is no pod, node, address, entity or name that is known here",
                code="not-found",
                hint="pods are NAMESPACE/NAME",
            )
        return found

    def pod(self, text: str) -> End | None:
        """A pod by name, or the first one of the workload of that name."""
        namespace, slash, name = text.rpartition("/")
        namespace = namespace if slash else "default"
        here, everywhere = self._agent.tables["endpoints"], self._agent.tables["cluster_endpoints"]
        names = {r.pod for r in here.rows() if r.namespace == namespace}
        names |= {r.name for r in everywhere.rows() if r.namespace == namespace}
        if name not in names:
            owned = [n for n in names if n.startswith(name) and _WORKLOAD.fullmatch(n[len(name) :])]
            if not owned:
                return None
            name = min(owned)
        for row in here.find("pod", (namespace, name)):
            return self._local(row)
        row = everywhere.get((namespace, name))
        return self._remote(row) if row is not None else None

    def _local(self, row: Any) -> End:
        return End(
            *(POD, row.name, row.identity, self.labels(row.identity)),
            tuple(a for a in (row.ipv4, row.ipv6) if a is not None),
            row.id,
            self._agent.node_name,
            tuple(row.named_ports),
        )

    def _remote(self, row: Any) -> End:
        return End(
            *(POD, f"{row.namespace}/{row.name}", row.identity, self.labels(row.identity)),
            tuple(a for a in (row.ipv4, row.ipv6) if a is not None),
            node=self._node_at(row.node),
            ports=tuple(row.named_ports),
        )

    def of_identity(self, number: int) -> End:
        """Whoever has an identity."""
        labels = self.labels(number)
        if not labels and number not in self._manager.engine.selectors:
            raise ApiError(f"no identity {number}", code="not-found")
        rows = self._agent.tables["endpoints"].find("identity", number)
        node = self._agent.node_name if rows else ""
        return End(IDENTITY, f"identity {number}", number, labels, node=node)

    def of_address(self, address: IPAddress) -> End:
        """The pod or node that has an address, else what the ipcache says of it."""
        if address.version not in self.families:
            raise ApiError(f"{address}: this node has no IPv{address.version}", code="bad-request")
        for row in self._agent.tables["endpoints"].find("address", address):
            return evolve(self._local(row), addresses=(address,))
        for row in self._agent.tables["cluster_endpoints"].find("address", address):
            return evolve(self._remote(row), addresses=(address,))
        node = self._node_at(address)
        if node:
            return evolve(self._node(node) or self._world(address.version), addresses=(address,))
        entry = self._agent.ipcache.lookup(address)
        number = entry.identity if entry else int(self._world(address.version).identity)
        return End(ADDRESS, str(address), number, self.labels(number), (address,))

    def _entity(self, word: str, family: int) -> End:
        if word == Reserved.WORLD.label:
            return self._world(family)
        reserved = ENTITIES[word]
        node = self._agent.node_name if reserved == Reserved.HOST else ""
        kind = NODE if reserved == Reserved.HOST else ENTITY
        labels = self.labels(int(reserved)) or reserved_labels(reserved)
        return End(kind, word, int(reserved), labels, node=node)

    def _world(self, family: int) -> End:
        number = int(world_identity(family, dual_stack=len(self.families) > 1))
        return End(ENTITY, "world", number, self.labels(number))

    def _node(self, text: str) -> End | None:
        row = self._agent.tables["nodes"].get(text)
        if row is None:
            return None
        return self._node_seen(row, local=row.local)

    def _node_seen(self, row: Node, *, local: bool) -> End:
        """A node as its own agent sees it, or as others do."""
        known = self._agent.node_identities
        labels = known.labels(evolve(row, local=local))
        number = int(Reserved.HOST) if local else known.lookup(labels) or UNMET
        return End(NODE, row.name, number, labels, row.addresses, node=row.name)

    def _node_at(self, address: IPAddress | None) -> str:
        if address is None:
            return ""
        rows = self._agent.tables["nodes"].rows()
        return next((r.name for r in rows if address in r.addresses), "")

    def _name(self, text: str, family: int) -> End | None:
        """A name outside the cluster: an address that has the labels of all rules that name it."""
        name = text.lower().rstrip(".")
        if not _DNS.fullmatch(name):
            return None
        keys = {p.label_key for p in self._fqdns() if peer_matches(p, name)}
        world = self._world(family)
        labels = LabelSet.of([*world.labels, *(Label(FQDN, key) for key in keys)])
        return End(NAME, name, UNMET, labels)

    def _fqdns(self) -> Iterable[FqdnPeer]:
        rules: Iterable[Rule] = (r for _, _, r in self._manager.engine.rules())
        return {peer for rule in rules for peer in rule.fqdns or ()}

    # As policy sees them

    def labels(self, number: int) -> LabelSet:
        """Labels of an identity, as selectors see them; empty if it is not known."""
        found = self._manager.engine.selectors.labels(number)
        return found if found is not None else LabelSet()

    def seen_from(self, end: End, node: str) -> End:
        """An end as an endpoint on ``node`` sees it: its own node is the host, others are not."""
        if end.kind != NODE or not end.node or not node:
            return end
        row = self._agent.tables["nodes"].get(end.node)
        return self._node_seen(row, local=end.node == node) if row is not None else end

    def subject(self, end: End) -> Party:
        """An end as the subject of policy: with the port names of the pods on its own node."""
        endpoints = self._agent.tables["endpoints"].find("identity", end.identity)
        if not end.node or end.node == self._agent.node_name:
            pods = [tuple(r.named_ports) for r in endpoints]
        else:
            rows = self._agent.tables["cluster_endpoints"].find("identity", end.identity)
            pods = [tuple(r.named_ports) for r in rows if self._node_at(r.node) == end.node]
        return evolve(self.peer(end), pods=tuple(pods))

    def peer(self, end: End) -> Party:
        """An end as the peer of somebody's policy."""
        pods = tuple(self._manager.ports.pods(end.identity))
        row = self._agent.tables["identities"].get(end.identity)
        if row is None:
            stranger = Identity(end.identity, end.labels, "cidr")
            if not end.labels:
                return Party(end.identity, end.labels, known=False)
            labels, prefixes = facts_of(stranger, self.families)
            return Party(end.identity, labels, prefixes, pods)
        labels, prefixes = facts_of(row, self.families)
        known = end.identity in self._manager.engine.selectors
        return Party(end.identity, labels, prefixes, pods, known)
