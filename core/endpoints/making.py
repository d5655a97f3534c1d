"""Making an endpoint: address, identity, link, maps, programs, state file, in that order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from attrs import evolve

from axoneme.core.endpoints.files import SavedEndpoint
from axoneme.core.endpoints.links import MadeLink, host_name
from axoneme.core.endpoints.parts import Address, EndpointParts, holder_of
from axoneme.core.endpoints.pods import Pod
from axoneme.core.endpoints.request import EndpointRequest
from axoneme.core.errors import ConflictError, NotReadyError
from axoneme.core.model.endpoint import (
    AddressPair,
    AddressRequest,
    Endpoint,
    EndpointState,
    InterfaceSettings,
)


class EndpointMaker:
    """Makes one endpoint at a time per call; calls may overlap."""

    def __init__(self, parts: EndpointParts) -> None:
        self._parts = parts

    async def create(self, request: EndpointRequest, undo: AsyncExitStack) -> Endpoint:
        """Every step in order; each pushes what undoes it."""
        pod = await self._parts.pods.find(request)
        number = self._parts.ids.allocate()
        undo.callback(self._parts.ids.release, number)
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
            mtu=request.mtu or self._parts.node.mtu(),
            named_ports=pod.named_ports if pod else (),
            state=EndpointState.WAITING_FOR_IDENTITY,
            uid=request.uid or (pod.uid if pod else ""),
        )
        labels = self._parts.pods.labels(endpoint)
        if labels is None:
            raise NotReadyError(f"pod {request.owner} or its namespace is not known yet")
        identity = await self._parts.identities.allocate(labels)
        undo.callback(self._parts.identities.release, identity)
        settings = InterfaceSettings(mtu=endpoint.mtu)
        endpoint = evolve(endpoint, labels=labels, identity=identity)
        self._parts.hooks.configure(endpoint, settings)
        return await self._connect(request, endpoint, settings, undo)

    async def _connect(
        self,
        request: EndpointRequest,
        endpoint: Endpoint,
        settings: InterfaceSettings,
        undo: AsyncExitStack,
    ) -> Endpoint:
        """The link, the maps, the programs; and only then the pod's end and the state file."""
        written: list[Endpoint] = []  # what is undone after the link: programs go last
        undo.callback(self._forget, written)
        undo.push_async_callback(self._parts.blocking, self._parts.links.remove, endpoint.ifname)
        made: MadeLink = await self._parts.blocking(self._parts.links.make, request, settings)
        endpoint = evolve(
            endpoint,
            ifindex=made.ifindex,
            mac=made.mac,
            host_mac=made.host_mac,
            mtu=settings.mtu,
            state=EndpointState.REGENERATING,
        )
        written.append(endpoint)
        self._parts.table.upsert(endpoint)
        self._parts.realizer.write(endpoint)
        revision = await self._parts.realizer.settle(endpoint)
        undo.push_async_callback(self._parts.blocking, self._parts.files.delete, endpoint.id)
        ready = evolve(endpoint, policy_revision=revision)
        await self._parts.blocking(self._finish, ready, settings, self._parts.gateways(endpoint))
        return self._parts.note(endpoint.id, state=EndpointState.READY, policy_revision=revision)

    def _finish(
        self, endpoint: Endpoint, settings: InterfaceSettings, gateways: Sequence[Address]
    ) -> None:
        """Blocking: what is left to do, in one go."""
        self._parts.links.set_up(endpoint, gateways, settings)
        self._parts.files.save(SavedEndpoint(endpoint, endpoint.id in self._parts.given))

    def _forget(self, written: list[Endpoint]) -> None:
        for endpoint in written:
            self._parts.forget(endpoint)

    def _allocate(
        self, number: int, request: EndpointRequest, pod: Pod | None, undo: AsyncExitStack
    ) -> AddressPair:
        if request.addresses is not None:
            for address in request.addresses:
                if self._parts.realizer.addresses.get(address) is not None:
                    raise ConflictError(
                        f"address {address} of {request.owner} is in use on this node"
                    )
            self._parts.given.add(number)
            undo.callback(self._parts.given.discard, number)
            return request.addresses
        pair = self._parts.hooks.allocate(
            AddressRequest(
                holder_of(request),
                self._parts.node.ipv4,
                self._parts.node.ipv6,
                annotations=pod.annotations if pod else (),
                namespace=request.namespace,
                pod=request.pod,
            )
        )
        undo.callback(self._parts.hooks.release, pair, holder_of(request))
        return pair
