"""The nodes of the cluster, without those that clash.

Two nodes that claim overlapping pod CIDRs, or one underlay address, cannot both be right. This
node never yields; among others the one that was known first keeps its place, and the other one
is reported and left out until the clash is gone. Everything else goes on.
"""

from __future__ import annotations

import logging

from axoneme.core.model.node import Node
from axoneme.core.state import Changes, Table, TableRegistry

log = logging.getLogger(__name__)


def node_tables(tables: TableRegistry) -> tuple[Table[str, Node], Table[str, Node]]:
    """Make ``nodes_seen`` (as the store has them) and ``nodes`` (those that may be used)."""
    seen = tables.create("nodes_seen", Node, key=lambda r: r.name)
    return seen, tables.create("nodes", Node, key=lambda r: r.name)


def clash(node: Node, other: Node) -> str:
    """Why the two cannot both be right; empty if they can."""
    for mine in node.pod_cidrs:
        for theirs in other.pod_cidrs:
            if mine.version == theirs.version and mine.overlaps(theirs):
                return f"pod CIDR {mine} overlaps {theirs} of node {other.name}"
    shared = set(node.addresses) & set(other.addresses)
    if shared:
        return f"address {min(map(str, shared))} belongs to node {other.name} too"
    return ""


Key = tuple[int, int, int]
"""Family, prefix length, leading bits."""


class ClaimIndex:
    """Who claims what, so that a new node is compared with possible rivals only."""

    def __init__(self) -> None:
        self._exact: dict[Key, set[str]] = {}
        self._covering: dict[Key, set[str]] = {}

    def rivals(self, node: Node) -> set[str]:
        """Names of nodes that may clash with ``node``."""
        found: set[str] = set()
        for key in _claims(node):
            found |= self._covering.get(key, set())
            for above in _supernets(key):
                found |= self._exact.get(above, set())
        return found - {node.name}

    def add(self, node: Node) -> None:
        """Note the claims of a node."""
        for key in _claims(node):
            self._exact.setdefault(key, set()).add(node.name)
            for above in _supernets(key):
                self._covering.setdefault(above, set()).add(node.name)

    def remove(self, node: Node) -> None:
        """Forget them."""
        for key in _claims(node):
            _discard(self._exact, key, node.name)
            for above in _supernets(key):
                _discard(self._covering, above, node.name)


def _claims(node: Node) -> list[Key]:
    keys = [
        (c.version, c.prefixlen, int(c.network_address) >> (c.max_prefixlen - c.prefixlen))
        for c in node.pod_cidrs
    ]
    return keys + [(a.version + 100, a.max_prefixlen, int(a)) for a in node.addresses]


def _supernets(key: Key) -> list[Key]:
    family, length, bits = key
    if family > 100:  # an address clashes with the same address only
        return [key]
    return [(family, n, bits >> (length - n)) for n in range(length, -1, -1)]


def _discard(index: dict[Key, set[str]], key: Key, name: str) -> None:
    names = index.get(key)
    if names is not None:
        names.discard(name)
        if not names:
            del index[key]


class NodeDirectory:
    """Derives ``nodes`` from ``nodes_seen``; ``errors`` names the nodes left out and why."""

    def __init__(self, seen: Table[str, Node], nodes: Table[str, Node]) -> None:
        self.errors: dict[str, str] = {}
        self._seen = seen
        self._nodes = nodes
        self._index = ClaimIndex()
        seen.subscribe(self._changed)

    def _changed(self, changes: Changes[str, Node]) -> None:
        with self._nodes.transaction():
            for name in changes.deleted:
                self._drop(name)
                self.errors.pop(name, None)
            # The local node first: it may push others out, never the other way round.
            for node in sorted(changes.upserted.values(), key=lambda n: not n.local):
                self._admit(node)
            for name in list(self.errors):  # perhaps what they clashed with is gone
                waiting = self._seen.get(name)
                if waiting is not None and name not in changes.upserted:
                    self._admit(waiting)
        if self._seen.initialized.is_set():
            self._nodes.mark_initialized()

    def settle(self) -> None:
        """Take over what is there now; called once the store has been read."""
        self._seen.flush()
        self._nodes.mark_initialized()

    def _admit(self, node: Node) -> None:
        for name in sorted(self._index.rivals(node)):
            other = self._nodes.get(name)
            reason = clash(node, other) if other is not None else ""
            if other is None or not reason:
                continue
            if node.local:
                self._refuse(other, clash(other, node))
                continue
            self._refuse(node, reason)
            return
        if self.errors.pop(node.name, None):
            log.info("node no longer clashes", extra={"node": node.name})
        old = self._nodes.get(node.name)
        if old is not None:
            self._index.remove(old)
        self._nodes.upsert(node)
        self._index.add(node)

    def _drop(self, name: str) -> None:
        old = self._nodes.get(name)
        if old is not None:
            self._index.remove(old)
            self._nodes.delete(name)

    def _refuse(self, node: Node, reason: str) -> None:
        if self.errors.get(node.name) != reason:
            log.error("node ignored", extra={"node": node.name, "reason": reason})
        self.errors[node.name] = reason
        self._drop(node.name)
