"""Services and their EndpointSlices as rows."""

from __future__ import annotations

from attrs import frozen

from axoneme.core.model.balancing import Address, Network, ServiceName

Pairs = tuple[tuple[str, str], ...]


@frozen
class Port:
    """A port of a Service. ``name`` is empty where there is one port only."""

    name: str
    port: int
    proto: int
    node_port: int = 0


@frozen(kw_only=True)
class Service:
    """Row of table ``services``. Key: ``name``."""

    name: ServiceName
    uid: str = ""
    created: str = ""
    """RFC 3339, so that it sorts; empty sorts last."""
    labels: Pairs = ()
    annotations: Pairs = ()
    """Also those of algorithms that others have written."""
    selector: Pairs = ()
    type: str = "ClusterIP"
    families: tuple[int, ...] = (4,)
    cluster_ips: tuple[Address, ...] = ()
    external_ips: tuple[Address, ...] = ()
    balancer_ips: tuple[Address, ...] = ()
    balancer_class: str = ""
    ports: tuple[Port, ...] = ()
    local_in: bool = False
    local_out: bool = False
    affinity_seconds: int = 0
    ranges: tuple[Network, ...] = ()
    health_port: int = 0
    topology: bool = False
    """Backends of the node's own zone are preferred."""


@frozen
class Endpoint:
    """Somebody in an EndpointSlice."""

    addresses: tuple[Address, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    zone: str = ""
    zones: tuple[str, ...] = ()
    """``hints.forZones``."""


@frozen
class Slice:
    """Row of table ``service_slices``. Key: ``name``; index ``service``."""

    name: ServiceName
    service: ServiceName
    ports: tuple[tuple[str, int, int], ...]
    """Name, protocol, port."""
    endpoints: tuple[Endpoint, ...]
