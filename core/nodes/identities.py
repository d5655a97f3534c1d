"""Which identity a node has: by what it is, its labels if policy may ask for them, its duties.

This node is always the host (1). Another one is remote-node (6), or kube-apiserver (7) where an
API server runs; with ``enable-node-selector-labels`` each set of labels has a number of its own, of
the scope of remote nodes, which means something on this node only. A node that gets another number
keeps its old one until the policy of the new one is in the kernel, and policy forgets the old one
only when no packet can carry it any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from axoneme.core.errors import AxonemeError
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.identities.local import LocalIdentities
from axoneme.core.model.identity import REMOTE_NODE_SCOPE, Identity, Reserved, reserved_labels
from axoneme.core.model.labels import NODE, RESERVED, Label, LabelSet
from axoneme.core.model.node import Node
from axoneme.core.state import Changes, Table

log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address

LINGER: Final = 2.0
"""Seconds for which a number that no node has any more stays: packets may be under way."""
APISERVER: Final = Label(RESERVED, Reserved.KUBE_APISERVER.label)


class NodeIdentities:
    """Follows table ``nodes``; lives on the loop's thread.

    ``realised`` returns when the policy of all identities is in the kernel; ``None`` of it: nobody
    enforces policy yet, so numbers count at once.
    """

    def __init__(
        self,
        table: Table[int, Identity],
        nodes: Table[str, Node],
        *,
        remote_labels: bool,
        host_labels: bool,
        chosen: LabelFilter,
        realised: Callable[[], Awaitable[object] | None],
    ) -> None:
        self._table = table
        self._nodes = nodes
        self._remote_labels = remote_labels
        self._host_labels = host_labels or remote_labels
        self._chosen = chosen
        self._realised = realised
        self._local = LocalIdentities(table, scope=REMOTE_NODE_SCOPE, source="node")
        self._apiservers: frozenset[Address] = frozenset()
        self._numbers: dict[str, int] = {}
        self._wanted: dict[str, int] = {}
        self._switching: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[str], None]] = []
        nodes.subscribe(self._changed)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the name of a node that has another number from now on."""
        self._listeners.append(listener)

    def number(self, node: Node) -> int:
        """The identity of a node."""
        if node.local:
            return int(Reserved.HOST)
        if node.name not in self._numbers:
            self._settle(node)
        return self._numbers[node.name]

    def lookup(self, labels: LabelSet) -> int | None:
        """The number of another node with these labels; ``None``: no node has them."""
        if self._remote_labels:
            return self._local.lookup(labels)
        return self._reserved(labels)

    def set_apiservers(self, addresses: Collection[Address]) -> None:
        """These are the addresses at which API servers are, on nodes or elsewhere."""
        before, self._apiservers = self._apiservers, frozenset(addresses)
        touched = before ^ self._apiservers
        for node in self._nodes.rows():
            if touched.intersection(node.addresses):
                self._settle(node)

    def labels(self, node: Node) -> LabelSet:
        """What policy may ask of a node."""
        reserved = Reserved.HOST if node.local else Reserved.REMOTE_NODE
        found = set(reserved_labels(reserved))
        if self._apiservers.intersection(node.addresses):
            found.add(APISERVER)
        if self._host_labels if node.local else self._remote_labels:
            own = (Label(NODE, key, value) for key, value in node.labels)
            found.update(label for label in own if self._chosen.keeps(label))
        return LabelSet.of(found)

    # Inside

    def _changed(self, changes: Changes[str, Node]) -> None:
        for name in changes.deleted:
            self._leave(self._wanted.pop(name, 0))
            self._leave(self._numbers.pop(name, 0))
        for node in changes.upserted.values():
            self._settle(node)

    def _settle(self, node: Node) -> None:
        labels = self.labels(node)
        if node.local:
            self._host(labels)
            return
        number = self._allocate(labels)
        present = self._wanted.get(node.name, self._numbers.get(node.name))
        if number == present:
            self._local.release(number)
            return
        self._leave(self._wanted.pop(node.name, 0))
        if node.name not in self._numbers:
            self._numbers[node.name] = number
            return
        if number == self._numbers[node.name]:  # back before the other one came to count
            self._local.release(number)
            return
        self._wanted[node.name] = number
        if self._switching is None or self._switching.done():
            self._switching = asyncio.get_running_loop().create_task(self._switch())

    def _host(self, labels: LabelSet) -> None:
        row = self._table.get(int(Reserved.HOST))
        if row is None or row.labels != labels:
            self._table.upsert(Identity(int(Reserved.HOST), labels, "reserved"))

    def _allocate(self, labels: LabelSet) -> int:
        """A number; one of the scope counts a user."""
        if not self._remote_labels:
            return self._reserved(labels)
        return self._local.allocate(labels)

    @staticmethod
    def _reserved(labels: LabelSet) -> int:
        return int(Reserved.KUBE_APISERVER if APISERVER in labels else Reserved.REMOTE_NODE)

    def _leave(self, number: int) -> None:
        if number >= REMOTE_NODE_SCOPE:
            asyncio.get_running_loop().call_later(LINGER, self._local.release, number)

    async def _switch(self) -> None:
        """Hand out new numbers once their policy is in the kernel."""
        while self._wanted:
            await asyncio.sleep(0)
            batch = dict(self._wanted)
            try:
                waiting = self._realised()
                if waiting is not None:
                    await waiting
            except AxonemeError as error:
                log.warning("identities of nodes wait for policy: %s", error)
                await asyncio.sleep(1.0)
                continue
            for name, number in batch.items():
                if self._wanted.get(name) != number:
                    continue
                del self._wanted[name]
                self._leave(self._numbers[name])
                self._numbers[name] = number
                for listener in self._listeners:
                    listener(name)
