"""This node: its addresses, its pod CIDRs, and its CiliumNode object.

The agent owns ``spec.addresses``, annotations by which it announces something, and the labels,
which are those of the Kubernetes Node, the operator ``spec.ipam``, save what an
:class:`IpamSource` of the agent's has to say there; each writes against the version that it read,
so neither ever overwrites the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final, cast

from axoneme.core.devices import NodeDevices
from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError, RetryableError
from axoneme.core.model.endpoint import AddressPair
from axoneme.core.model.node import Node, NodePool
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.nodes.objects import KIND, Address, Prefix, encode_addresses, first_address
from axoneme.core.nodes.source import IpamSource
from axoneme.core.reconcile.reconciler import backoff
from axoneme.core.state import Changes, Table
from axoneme.core.store.model import Store, StoreEvent

log = logging.getLogger(__name__)

PUBLISH_SECONDS: Final = 10.0
"""That a start waits for the first time, before it goes on."""
RECALL_SECONDS: Final = 5.0
"""For what was saved of the Node object."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LocalNode:
    """Facts about this node, and the task that keeps its object right."""

    def __init__(
        self, name: str, store: Store, seen: Table[str, Node], *, ipv4: bool, ipv6: bool
    ) -> None:
        self.name = name
        self.devices = NodeDevices()
        self.families = tuple(v for v, on in ((4, ipv4), (6, ipv6)) if on)
        self.needed_families: tuple[int, ...] = ()
        """Families whose pod CIDRs the start waits for; set by an IPAM plugin."""
        self.source: IpamSource | None = None
        """Set by an IPAM plugin that has a say in the object."""
        self.announced: dict[str, str] = {}
        """Annotations of the object that are the agent's; one that is empty is taken away."""
        self.error = ""
        """Why the object could not be written last time, or what the operator says."""
        self._store = store
        self._seen = seen
        self._kubernetes: tuple[Address, ...] = ()
        self._node: ClusterObject | None = None
        self._following = False
        self._published = False
        self._labels: dict[str, str] | None = None
        self._kept: Node | None = None
        self._listeners: list[Callable[[tuple[Prefix, ...]], None]] = []
        seen.subscribe(self._changed)

    def on_pod_cidrs(self, listener: Callable[[tuple[Prefix, ...]], None]) -> None:
        """Call ``listener`` with the pod CIDRs now, if any, and whenever they change."""
        self._listeners.append(listener)
        if self.pod_cidrs:
            listener(self.pod_cidrs)

    def _changed(self, changes: Changes[str, Node]) -> None:
        if self.name in changes.upserted:
            row = changes.upserted[self.name]
            self._kept = row if row.pod_cidrs else self._kept
            for listener in self._listeners:
                listener(self.pod_cidrs)

    # Facts

    @property
    def row(self) -> Node | None:
        """The node as the store has it."""
        return self._seen.get(self.name)

    @property
    def pod_cidrs(self) -> tuple[Prefix, ...]:
        """The node's pod CIDRs of the enabled families."""
        row = self._last
        return tuple(c for c in row.pod_cidrs if c.version in self.families) if row else ()

    @property
    def pools(self) -> tuple[NodePool, ...]:
        """Those of them that are blocks of pools, of all families."""
        return self._last.pools if self._last else ()

    @property
    def _last(self) -> Node | None:
        """The row that had pod CIDRs last.

        Pods live in them: should the object vanish, they stay until it says otherwise.
        """
        return self.row if self.row is not None and self.row.pod_cidrs else self._kept

    @property
    def routers(self) -> tuple[Address, ...]:
        """The node's own address in the first pod CIDR of each family."""
        found: dict[int, Address] = {}
        for prefix in self._router_prefixes():
            found.setdefault(prefix.version, first_address(prefix))
        return tuple(found.values())

    def _router_prefixes(self) -> Sequence[Prefix]:
        cidrs = self.pod_cidrs
        return cidrs if self.source is None else self.source.router_prefixes(cidrs)

    @property
    def internal(self) -> tuple[Address, ...]:
        """The addresses on the underlay, at most one of a family."""
        own = {a for d in self.devices.devices for a in d.addresses}
        found: dict[int, Address] = {a.version: a for a in reversed(self._kubernetes) if a in own}
        for version in (4, 6):
            address = self.devices.address(version)
            if address is not None:
                found.setdefault(version, address)
        return tuple(found[v] for v in sorted(found))

    @property
    def addresses(self) -> AddressPair:
        """The same as a pair."""
        pair = {a.version: a for a in self.internal}
        v4, v6 = pair.get(4), pair.get(6)
        return AddressPair(
            v4 if isinstance(v4, IPv4Address) else None, v6 if isinstance(v6, IPv6Address) else None
        )

    def missing_families(self) -> tuple[int, ...]:
        """Families that are needed and have no pod CIDR that a router could be in yet."""
        have = {c.version for c in self._router_prefixes()}
        return tuple(v for v in self.needed_families if v not in have)

    # The object

    async def publish(self) -> None:
        """Write the object if it differs; a conflict is read again and retried."""
        await self._ask_kubernetes()
        while True:
            try:
                await self._publish_once()
                self._published = True
                if not self.missing_families():
                    self.error = ""
                return
            except ConflictError:
                await asyncio.sleep(0.01)

    async def begin(self) -> bool:
        """Publish; false if the store is away. Then what was saved of the Node object tells the
        addresses, and at a start :meth:`keep` writes later.
        """
        if not self._store.away():
            try:
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await self.publish()
                return True
            except RetryableError:
                if not self._store.away():
                    raise
            except TimeoutError:
                log.warning("the store takes long to answer", extra={"node": self.name})
        self.error = f"not published: {self._store.away() or 'the store takes long to answer'}"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECALL_SECONDS), aclosing(self._node_events()) as events:
                async for event in events:
                    if event.obj is not None:
                        self._learn(event.obj)
                    if event.type == "synced":
                        break
        return False

    async def wait_for_cidrs(self) -> None:
        """Wait until every needed family has a pod CIDR, then publish the router addresses."""
        with self._seen.watch() as watch:
            patience = 1.0
            while self.missing_families():
                try:
                    async with asyncio.timeout(patience):  # wait_for may lose a cancellation
                        await watch.next()
                except TimeoutError:
                    if not self._published:  # nobody gives any to a node that is not there
                        await self.begin()
                    await self._tell_waiting()
                    patience = 10.0 if self._published else 1.0
        self.error = ""
        await self.begin()

    async def keep(self) -> None:
        """Follow the object for ever: written again when somebody removes or changes it."""
        failures = 0
        with self._seen.watch() as watch:
            while True:
                try:
                    await self.publish()
                    failures = 0
                    changes = await watch.next()
                    while self.name not in (*changes.upserted, *changes.deleted):
                        changes = await watch.next()
                    await asyncio.sleep(0.05)
                except AxonemeError as error:
                    failures += 1
                    self.error = str(error)
                    log.warning("own node not published", extra={"error": str(error)})
                    await asyncio.sleep(backoff(failures))

    async def follow_kubernetes(self) -> None:
        """Follow the Node object for ever: its labels and addresses become this node's."""
        self._following = True
        async for event in self._node_events():
            # A kubelet writes its Node every few seconds; what is ours of it hardly ever changes.
            if event.obj is None or not self._learn(event.obj):
                continue
            try:
                await self.publish()
            except AxonemeError as error:  # :meth:`keep` goes on trying
                self.error = str(error)

    def _node_events(self) -> AsyncGenerator[StoreEvent, None]:
        found = self._store.watch("Node", self.name)
        return cast("AsyncGenerator[StoreEvent, None]", found)  # as all of them are

    async def _publish_once(self) -> None:
        key = ObjectKey(KIND, "", self.name)
        addresses = encode_addresses(self.internal, self.routers)
        try:
            obj = await self._store.get(key)
        except NotFoundError:
            await self._store.create(await self._fresh(addresses))
            log.info("own node created", extra={"node": self.name})
            return
        labels = dict(obj.labels) if self._labels is None else self._labels
        spec: dict[str, Any] = {"addresses": addresses}
        if self.source is not None:
            present = obj.spec.get("ipam")
            there = present if isinstance(present, Mapping) else {}
            spec["ipam"] = dict(self.source.wanted(there, self._node))
        metadata = {"labels": labels, "annotations": self._annotations(obj.annotations)}
        known = {"labels": dict(obj.labels), "annotations": dict(obj.annotations)}
        if all(obj.spec.get(k) == v for k, v in spec.items()) and metadata == known:
            return
        await self._store.update(_changed(obj, spec, metadata))

    def _annotations(self, present: Mapping[str, str]) -> dict[str, str]:
        """Those of others as they are, and ours."""
        kept = {k: v for k, v in present.items() if k not in self.announced}
        return kept | {k: v for k, v in self.announced.items() if v}

    async def _fresh(self, addresses: Iterable[dict[str, str]]) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": self.name}
        if announced := self._annotations({}):
            metadata["annotations"] = announced
        with contextlib.suppress(NotFoundError):
            node = await self._store.get(ObjectKey("Node", "", self.name))
            metadata["labels"] = dict(node.labels)
            metadata["ownerReferences"] = [
                {"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": node.uid}
            ]
        blocks = {c for pool in self.pools for c in pool.cidrs}
        kept = [str(c) for c in self._kept.pod_cidrs if c not in blocks] if self._kept else []
        ipam: Mapping[str, Any] = {"podCIDRs": kept} if kept else {}
        if self.source is not None:
            ipam = self.source.wanted(ipam, self._node)
        spec: dict[str, Any] = {"addresses": list(addresses), "ipam": dict(ipam)}
        spec["bootid"] = await asyncio.to_thread(_boot_id)
        return {"apiVersion": "cilium.io/v2", "kind": KIND, "metadata": metadata, "spec": spec}

    async def _ask_kubernetes(self) -> None:
        """Labels and InternalIPs of the Node object, where there is one."""
        if self._following and self._labels is not None:
            return  # the watch tells of changes
        with contextlib.suppress(AxonemeError):
            self._learn(await self._store.get(ObjectKey("Node", "", self.name)))

    def _learn(self, node: ClusterObject) -> bool:
        """Take over what the Node object says; whether that is something new."""
        spec = None if self._node is None else dict(self._node.spec)
        before = self._kubernetes, self._labels, spec
        listed = []
        for entry in node.status.get("addresses") or ():
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                address = ip_address(entry["address"])
                if entry.get("type") == "InternalIP":
                    listed.append(address)
        self._kubernetes = tuple(listed)
        self._node, self._labels = node, dict(node.labels)
        return before != (self._kubernetes, self._labels, dict(node.spec))

    async def _tell_waiting(self) -> None:
        reason = self.source.why_missing(self.missing_families()) if self.source else ""
        reason = self._store.away() or reason
        with contextlib.suppress(AxonemeError):
            self.error = (
                reason
                or await self.operators_word()
                or "waiting for the operator to give pod CIDRs"
            )
        log.warning("no pod CIDR yet", extra={"node": self.name, "reason": self.error})

    async def operators_word(self) -> str:
        """Why the operator gives this node no (more) addresses, by the status of its object."""
        obj = await self._store.get(ObjectKey(KIND, "", self.name))
        ipam = obj.status.get("ipam")
        return str(((ipam or {}).get("operator-status") or {}).get("error") or "")


def _changed(
    obj: ClusterObject, spec: Mapping[str, Any], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    version = {"resourceVersion": obj.resource_version}
    return {
        **obj.body,
        "spec": {**obj.spec, **spec},
        "metadata": {**obj.body["metadata"], **metadata, **version},
    }


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return BOOT_ID.read_text().strip()
    return ""
