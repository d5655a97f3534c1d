"""The life of endpoints on this node: ADD, DEL, CHECK, GC, restore, change of labels.

Requests about one attachment run one after the other; different ones run beside each other. An
ADD that fails at any step undoes what it did, in reverse. Nothing of a new endpoint passes a
packet before its policy is in the kernel: the pod's end of the link stays down until then, and
the programs drop what has no policy.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Protocol, TypeVar

from attrs import define, evolve

from axoneme.core.endpoints.files import EndpointFiles, SavedEndpoint
from axoneme.core.endpoints.ids import EndpointIds
from axoneme.core.endpoints.links import EndpointLinks, MadeLink, host_name
from axoneme.core.endpoints.pods import Pod
from axoneme.core.endpoints.realize import Realizer
from axoneme.core.endpoints.request import EndpointRequest
from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError, NotReadyError
from axoneme.core.identities.allocator import IdentityAllocator
from axoneme.core.locks import KeyedLocks
from axoneme.core.model.endpoint import (
    AddressPair,
    AddressRequest,
    Endpoint,
    EndpointState,
    InterfaceSettings,
)
from axoneme.core.model.labels import LabelSet
from axoneme.core.state import Table

log = logging.getLogger(__name__)

T = TypeVar("T")
Address = IPv4Address | IPv6Address


class EndpointHooks(Protocol):
    """What the manager asks of plugins; the agent binds it to the hook relay."""

    def allocate(self, request: AddressRequest) -> AddressPair:
        """Addresses from the first plugin that has some."""
        ...

    def release(self, addresses: AddressPair, owner: str) -> None:
        """Give them back."""
        ...

    def configure(self, endpoint: Endpoint, settings: InterfaceSettings) -> None:
        """Let plugins change the interface's settings."""
        ...

    def changed(self, endpoint: Endpoint) -> None:
        """Tell that an endpoint is ready or has changed."""
        ...

    def removed(self, endpoint: Endpoint) -> None:
        """Tell that an endpoint is gone."""
        ...


class PodSource(Protocol):
    """Where an endpoint's labels come from."""

    async def find(self, request: EndpointRequest) -> Pod | None:
        """The pod of a request; ``None`` for a container without one."""
        ...

    def labels(self, endpoint: Endpoint) -> LabelSet | None:
        """The identity labels by what is known now; ``None`` when the pod is not known."""
        ...

    def pod(self, endpoint: Endpoint) -> Pod | None:
        """The pod as it is known now."""
        ...


@define
class NodeFacts:
    """What the manager needs of the node, asked anew each time."""

    ipv4: bool
    ipv6: bool
    mtu: Callable[[], int]
    gateways: Callable[[], Sequence[Address]]


class EndpointManager:
    """Owns table ``endpoints``. On the loop's thread; blocking work goes to an executor."""

    def __init__(
        self,
        table: Table[int, Endpoint],
        *,
        identities: IdentityAllocator,
        realizer: Realizer,
        links: EndpointLinks,
        files: EndpointFiles,
        hooks: EndpointHooks,
        pods: PodSource,
        node: NodeFacts,
    ) -> None:
        self.table = table
        self.accepting = False
        """Set once the agent is ready; until then requests are to be tried again."""
        self.last_add_ms: list[float] = []
        self._identities = identities
        self._realizer = realizer
        self._links = links
        self._files = files
        self._hooks = hooks
        self._pods = pods
        self._node = node
        self._ids = EndpointIds()
        self._given: set[int] = set()
        self._locks = KeyedLocks()
        self._executor = ThreadPoolExecutor(4, thread_name_prefix="axo-endpoint")

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    # What the CNI server asks

    async def add(self, request: EndpointRequest) -> Endpoint:
        """Make an endpoint, or hand out the one that this very request made before.

        Returns when packets flow under the identity's policy. Raises and leaves nothing behind
        otherwise; errors that may go away are :class:`RetryableError`.
        """
        request.check()
        self._check_ready()
        started = time.monotonic()
        async with self._locks.hold(request.attachment_id):
            present = self.by_attachment(request.attachment_id)
            if present is not None:
                return await self._repeat(present, request)
            await self._make_room(request)
            async with AsyncExitStack() as undo:
                endpoint = await self._create(request, undo)
                undo.pop_all()
        spent = (time.monotonic() - started) * 1000
        self.last_add_ms = [*self.last_add_ms[-999:], spent]
        log.info(
            "endpoint ready",
            extra={
                "endpoint": endpoint.id,
                "pod": endpoint.name,
                "identity": endpoint.identity,
                "milliseconds": round(spent, 1),
            },
        )
        self._hooks.changed(endpoint)
        return endpoint

    async def remove(self, attachment_id: str) -> bool:
        """Remove an endpoint. Idempotent: false when there was none."""
        async with self._locks.hold(attachment_id):
            endpoint = self.by_attachment(attachment_id)
            if endpoint is None:
                return await self._blocking(self._links.remove, host_name(attachment_id))
            await self._destroy(endpoint)
            return True

    async def check(self, attachment_id: str) -> str:
        """What is wrong with an endpoint, its interface included; empty when all is well."""
        self._check_ready()
        endpoint = self.by_attachment(attachment_id)
        if endpoint is None:
            return f"no endpoint has the attachment {attachment_id}"
        if endpoint.state != EndpointState.READY:
            return f"endpoint {endpoint.name} is {endpoint.state}: {endpoint.message}"
        problem = await self._blocking(self._links.check, endpoint)
        return f"endpoint {endpoint.name}: {problem}" if problem else ""

    async def gc(self, valid: Collection[str]) -> list[str]:
        """Remove every endpoint whose attachment is not in ``valid``; returns the attachments."""
        self._check_ready()
        removed = []
        for endpoint in self.table.rows():
            if endpoint.attachment_id not in valid and await self.remove(endpoint.attachment_id):
                removed.append(endpoint.attachment_id)
        return removed

    def by_attachment(self, attachment_id: str) -> Endpoint | None:
        """The endpoint of an attachment."""
        found = self.table.find("attachment", attachment_id)
        return found[0] if found else None

    def by_pod(self, namespace: str, pod: str) -> Endpoint | None:
        """The endpoint of a pod."""
        found = self.table.find("pod", (namespace, pod))
        return found[0] if found else None

    # Restoring

    async def restore(self) -> int:
        """Take over what the predecessor left: rows now, readiness in :meth:`finish_restore`.

        Endpoints whose interface is gone are dropped; interfaces of ours that no endpoint owns
        are removed. Identities keep their numbers, so pinned policy stays in force meanwhile.
        """
        await self._blocking(self._files.prepare)
        for saved in await self._blocking(self._files.load):
            try:
                await self._restore(saved)
            except AxonemeError as error:
                log.error(
                    "endpoint not restored",
                    extra={"endpoint": saved.endpoint.name, "error": str(error)},
                )
                await self._blocking(self._links.remove, saved.endpoint.ifname)
                await self._blocking(self._files.delete, saved.endpoint.id)
        keep = [e.ifname for e in self.table.rows()]
        for name in await self._blocking(self._links.sweep, keep):
            log.info("half-made link removed", extra={"link": name})
        return len(self.table)

    async def finish_restore(self) -> None:
        """Wait until the restored endpoints are programmed, and call them ready."""
        for endpoint in self.table.rows():
            if endpoint.state != EndpointState.RESTORING:
                continue
            try:
                revision = await self._realizer.settle(endpoint)
            except AxonemeError as error:
                self._note(endpoint.id, state=EndpointState.NOT_READY, message=str(error))
                log.error(
                    "endpoint not ready", extra={"endpoint": endpoint.id, "error": str(error)}
                )
                continue
            self._note(endpoint.id, state=EndpointState.READY, policy_revision=revision)
            self._hooks.changed(self._get(endpoint.id))

    async def _restore(self, saved: SavedEndpoint) -> None:
        endpoint = saved.endpoint
        index = await self._blocking(self._links.find, endpoint)
        if not index:
            log.info("endpoint gone meanwhile", extra={"endpoint": endpoint.name})
            await self._blocking(self._files.delete, endpoint.id)
            return
        self._ids.claim(endpoint.id)
        pair = AddressPair(endpoint.ipv4, endpoint.ipv6)
        owner = _owner(endpoint)
        if saved.addresses_given:
            self._given.add(endpoint.id)
        else:
            self._hooks.allocate(
                AddressRequest(
                    owner, endpoint.ipv4 is not None, endpoint.ipv6 is not None, wanted=pair
                )
            )
        identity = await self._identities.allocate(endpoint.labels)
        if identity != endpoint.identity:
            log.warning(
                "identity changed while the agent was away",
                extra={"endpoint": endpoint.id, "old": endpoint.identity, "new": identity},
            )
        restored = evolve(endpoint, ifindex=index, identity=identity)
        self.table.upsert(restored)
        self._realizer.write(restored)

    # Changes

    async def refresh(self, number: int, grace: float) -> None:
        """Bring an endpoint's labels, named ports and identity up to date.

        A new identity is allocated first and spreads for ``grace`` seconds, so that peers' policies
        know it before the first packet carries it; then the endpoint switches in one step.
        """
        endpoint = self.table.get(number)
        if endpoint is None or endpoint.state == EndpointState.DISCONNECTING:
            return
        async with self._locks.hold(endpoint.attachment_id):
            endpoint = self.table.get(number)
            if endpoint is None:
                return
            pod = self._pods.pod(endpoint)
            if pod is not None and pod.named_ports != endpoint.named_ports:
                endpoint = self._note(number, named_ports=pod.named_ports)
                await self._save(endpoint)
            labels = self._pods.labels(endpoint)
            if labels is None or labels == endpoint.labels:
                return
            await self._change_identity(endpoint, labels, grace)

    async def _change_identity(self, endpoint: Endpoint, labels: LabelSet, grace: float) -> None:
        identity = await self._identities.allocate(labels)
        try:
            await self._realizer.policy(identity)
            if identity != endpoint.identity and grace > 0:
                await asyncio.sleep(grace)
            if self.table.get(endpoint.id) is None:
                raise NotFoundError(f"endpoint {endpoint.name} went away")
            changed = self._note(endpoint.id, labels=labels, identity=identity)
            self._realizer.write(changed)
            revision = await self._realizer.settle(changed)
        except BaseException:
            self._identities.release(identity)
            present = self.table.get(endpoint.id)
            if present is not None:  # go on with what was in force
                self._realizer.write(
                    self._note(endpoint.id, labels=endpoint.labels, identity=endpoint.identity)
                )
            raise
        changed = self._note(endpoint.id, policy_revision=revision)
        self._identities.release(endpoint.identity)
        await self._save(changed)
        log.info(
            "identity changed",
            extra={"endpoint": endpoint.id, "old": endpoint.identity, "new": identity},
        )
        self._hooks.changed(changed)

    # Making

    async def _create(self, request: EndpointRequest, undo: AsyncExitStack) -> Endpoint:
        pod = await self._pods.find(request)
        number = self._ids.allocate()
        undo.callback(self._ids.release, number)
        pair = self._allocate(number, request, pod, undo)
        endpoint = Endpoint(
            id=number,
            attachment_id=request.attachment_id,
            namespace=request.namespace,
            pod=request.pod,
            ipv4=pair.ipv4,
            ipv6=pair.ipv6,
            ifname=host_name(request.attachment_id),
            ifindex=0,
            container_ifname=request.ifname,
            netns=request.netns,
            mac="",
            host_mac="",
            mtu=request.mtu or self._node.mtu(),
            named_ports=pod.named_ports if pod else (),
            state=EndpointState.WAITING_FOR_IDENTITY,
        )
        labels = self._pods.labels(endpoint)
        if labels is None:
            raise NotReadyError(f"pod {request.owner} is not known yet")
        identity = await self._identities.allocate(labels)
        undo.callback(self._identities.release, identity)
        settings = InterfaceSettings(mtu=endpoint.mtu)
        endpoint = evolve(endpoint, labels=labels, identity=identity)
        self._hooks.configure(endpoint, settings)
        endpoint = await self._connect(request, endpoint, settings, undo)
        undo.push_async_callback(self._blocking, self._files.delete, number)
        await self._save(endpoint)
        return endpoint

    async def _connect(
        self,
        request: EndpointRequest,
        endpoint: Endpoint,
        settings: InterfaceSettings,
        undo: AsyncExitStack,
    ) -> Endpoint:
        """The link, the maps, the programs; and only then the pod's end."""
        undo.push_async_callback(self._blocking, self._links.remove, endpoint.ifname)
        made: MadeLink = await self._blocking(self._links.make, request, settings)
        endpoint = evolve(
            endpoint,
            ifindex=made.ifindex,
            mac=made.mac,
            host_mac=made.host_mac,
            mtu=settings.mtu,
            state=EndpointState.REGENERATING,
        )
        undo.callback(self._forget, endpoint)
        self.table.upsert(endpoint)
        self._realizer.write(endpoint)
        revision = await self._realizer.settle(endpoint)
        await self._blocking(self._links.set_up, endpoint, self._gateways(endpoint), settings)
        return self._note(endpoint.id, state=EndpointState.READY, policy_revision=revision)

    def _allocate(
        self, number: int, request: EndpointRequest, pod: Pod | None, undo: AsyncExitStack
    ) -> AddressPair:
        if request.addresses is not None:
            self._given.add(number)
            undo.callback(self._given.discard, number)
            return request.addresses
        pair = self._hooks.allocate(
            AddressRequest(
                _holder(request),
                self._node.ipv4,
                self._node.ipv6,
                annotations=pod.annotations if pod else (),
            )
        )
        undo.callback(self._hooks.release, pair, _holder(request))
        return pair

    async def _make_room(self, request: EndpointRequest) -> None:
        """A pod has one endpoint: refuse a second sandbox while the first one lives."""
        if not request.pod:
            return
        other = self.by_pod(request.namespace, request.pod)
        if other is None or other.attachment_id.rpartition(":")[0] == request.container_id:
            return
        if await self._blocking(Path(other.netns).exists):
            raise ConflictError(
                f"pod {request.owner} has endpoint {other.id} on this node already"
                f" (container {other.attachment_id.rpartition(':')[0][:12]})",
                hint="delete the other container first",
            )
        await self.remove(other.attachment_id)

    async def _repeat(self, present: Endpoint, request: EndpointRequest) -> Endpoint:
        """The same ADD again: fine if it is the same and all is in place."""
        if (present.netns, present.namespace, present.pod) != (
            request.netns,
            request.namespace,
            request.pod,
        ):
            raise ConflictError(
                f"attachment {request.attachment_id} belongs to endpoint {present.id}"
                f" of {present.name} already"
            )
        problem = await self._blocking(self._links.check, present)
        if problem or present.state != EndpointState.READY:
            await self._destroy(present)
            async with AsyncExitStack() as undo:
                made = await self._create(request, undo)
                undo.pop_all()
            return made
        return present

    # Removing

    async def _destroy(self, endpoint: Endpoint) -> None:
        """The interface goes first: what belongs to it is let go only when no packet can come."""
        endpoint = self._note(endpoint.id, state=EndpointState.DISCONNECTING)
        await self._blocking(self._links.remove, endpoint.ifname)
        await self._blocking(self._files.delete, endpoint.id)
        self._forget(endpoint)
        pair = AddressPair(endpoint.ipv4, endpoint.ipv6)
        if endpoint.id not in self._given:
            self._hooks.release(pair, _owner(endpoint))
        self._given.discard(endpoint.id)
        self._identities.release(endpoint.identity)
        self._ids.release(endpoint.id)
        log.info("endpoint removed", extra={"endpoint": endpoint.id, "pod": endpoint.name})
        self._hooks.removed(evolve(endpoint, state=EndpointState.DISCONNECTED))

    def _forget(self, endpoint: Endpoint) -> None:
        self._realizer.erase(endpoint)
        self.table.delete(endpoint.id)

    # Helpers

    def _check_ready(self) -> None:
        if not self.accepting:
            raise NotReadyError("the agent is starting", hint="try again later")

    def _gateways(self, endpoint: Endpoint) -> list[Address]:
        versions = {a.version for a in AddressPair(endpoint.ipv4, endpoint.ipv6)}
        return [g for g in self._node.gateways() if g.version in versions]

    def _get(self, number: int) -> Endpoint:
        found = self.table.get(number)
        if found is None:
            raise NotFoundError(f"no endpoint {number}")
        return found

    def _note(self, number: int, **changes: Any) -> Endpoint:
        changed = evolve(self._get(number), **changes)
        self.table.upsert(changed)
        return changed

    async def _save(self, endpoint: Endpoint) -> None:
        saved = SavedEndpoint(endpoint, endpoint.id in self._given)
        await self._blocking(self._files.save, saved)

    async def _blocking(self, function: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(function, *args))


def _holder(request: EndpointRequest) -> str:
    return f"{request.owner} {request.attachment_id}" if request.pod else request.attachment_id


def _owner(endpoint: Endpoint) -> str:
    """Who holds an endpoint's addresses: the same text on ADD and on a restore."""
    return f"{endpoint.name} {endpoint.attachment_id}" if endpoint.pod else endpoint.attachment_id
