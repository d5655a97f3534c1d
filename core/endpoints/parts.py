"""What the parts of the endpoint manager share: collaborators, the table, the threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Protocol, TypeVar

from attrs import Factory, define, evolve

from axoneme.core.endpoints.files import EndpointFiles, SavedEndpoint
from axoneme.core.endpoints.ids import EndpointIds
from axoneme.core.endpoints.links import EndpointLinks
from axoneme.core.endpoints.pods import Pod
from axoneme.core.endpoints.realize import Realizer
from axoneme.core.endpoints.request import EndpointRequest
from axoneme.core.errors import NotFoundError
from axoneme.core.identities.allocator import IdentityAllocator
from axoneme.core.model.endpoint import (
    AddressPair,
    AddressRequest,
    Endpoint,
    InterfaceSettings,
)
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ClusterObject
from axoneme.core.state import Table

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


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, thread_name_prefix="axo-endpoint")


@define
class EndpointParts:
    """Collaborators of one manager; on the loop's thread except what :meth:`blocking` runs."""

    table: Table[int, Endpoint]
    identities: IdentityAllocator
    realizer: Realizer
    links: EndpointLinks
    files: EndpointFiles
    hooks: EndpointHooks
    pods: PodSource
    node: NodeFacts
    published: Callable[[], Awaitable[list[ClusterObject]]] | None = None
    """The CiliumEndpoint objects, to rebuild endpoints from whose state file is lost."""
    ids: EndpointIds = Factory(EndpointIds)
    given: set[int] = Factory(set)
    """Endpoints whose addresses somebody else gave: they are not ours to take back."""
    executor: ThreadPoolExecutor = Factory(_threads)

    def get(self, number: int) -> Endpoint:
        """An endpoint that must be there."""
        found = self.table.get(number)
        if found is None:
            raise NotFoundError(f"no endpoint {number}")
        return found

    def note(self, number: int, **changes: Any) -> Endpoint:
        """Change an endpoint's row."""
        changed = evolve(self.get(number), **changes)
        self.table.upsert(changed)
        return changed

    def forget(self, endpoint: Endpoint) -> None:
        """Take every row of an endpoint away."""
        self.realizer.erase(endpoint)
        self.table.delete(endpoint.id)

    async def save(self, endpoint: Endpoint) -> None:
        """Write the state file."""
        saved = SavedEndpoint(endpoint, endpoint.id in self.given)
        await self.blocking(self.files.save, saved)

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Run in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, partial(function, *args))

    def gateways(self, endpoint: Endpoint) -> list[Address]:
        """The router's addresses of the endpoint's families."""
        versions = {a.version for a in AddressPair(endpoint.ipv4, endpoint.ipv6)}
        return [g for g in self.node.gateways() if g.version in versions]


def holder_of(subject: EndpointRequest | Endpoint) -> str:
    """Who holds addresses: the same text on ADD, on a restore and on a removal."""
    if not subject.pod:
        return subject.attachment_id
    return f"{subject.namespace}/{subject.pod} {subject.attachment_id}"
