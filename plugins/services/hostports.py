"""Pods' host ports as services of their own: the node's port leads to the pod."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

from axoneme.core.endpoints.pods import HostPort, Pod
from axoneme.core.model.balancing import (
    PROTOCOLS,
    Address,
    Backend,
    Frontend,
    FrontendKey,
    Kind,
    PortKey,
    ServicePort,
)

SOURCE = "hostport"


class HasAddresses(Protocol):
    """What is read of an endpoint."""

    @property
    def ipv4(self) -> IPv4Address | None: ...
    @property
    def ipv6(self) -> IPv6Address | None: ...


def rows(pod: Pod, endpoint: HasAddresses, node: str, own: Iterable[Address]) -> list[ServicePort]:
    """The rows of a pod; ``own`` are the node's addresses."""
    every = list(own)
    return [
        row
        for port in pod.host_ports
        for address in (endpoint.ipv4, endpoint.ipv6)
        if address is not None and port.protocol in PROTOCOLS
        for row in _row(pod, port, address, node, every)
    ]


def _row(
    pod: Pod, port: HostPort, address: Address, node: str, own: list[Address]
) -> Iterator[ServicePort]:
    proto = PROTOCOLS[port.protocol]
    places = _places(port, address.version, own)
    if not places:
        return
    backend = Backend(address, port.container_port, proto, node=node, local=True)
    yield ServicePort(
        key=PortKey(pod.namespace, pod.name, str(port.port), proto, address.version, SOURCE),
        frontends=tuple(
            Frontend(FrontendKey(place, port.port, proto, address.version), Kind.HOST_PORT)
            for place in places
        ),
        backends=(backend,),
        chosen=(backend,),
        chosen_local=(backend,),
    )


def _places(port: HostPort, version: int, own: list[Address]) -> list[Address | None]:
    if not port.address or port.address in ("0.0.0.0", "::"):  # nobody binds to it
        return [*(a for a in own if a.version == version), None]
    try:
        wanted = ip_address(port.address)
    except ValueError:
        return []
    if wanted.version != version:
        return []
    return [None] if wanted.is_loopback else [wanted]
