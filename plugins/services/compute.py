"""What a service comes to on one node: its frontends, its backends, and who of them gets new flows.

Pure functions; sources: Kubernetes' service API, KEP-1669 (terminating backends are used when
there are no others), KEP-2433 (hints: all where one has none, or none is of
this node's zone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from attrs import define, frozen

from axoneme.core.model.balancing import (
    NO_FLAG,
    Address,
    Backend,
    Flag,
    Frontend,
    FrontendKey,
    Kind,
    PortKey,
    ServicePort,
    State,
)
from axoneme.plugins.services.config import ServiceSettings
from axoneme.plugins.services.rows import Endpoint, Port, Service, Slice

ALGORITHM: Final = "service.cilium.io/lb-algorithm"
FORWARDING: Final = "service.cilium.io/forwarding-mode"
RANGES_POLICY: Final = "service.cilium.io/src-ranges-policy"
TYPES: Final = "service.cilium.io/type"
WANTED_NODE: Final = "service.cilium.io/node"


BackendKey = tuple[bytes, int, int]
"""Packed address, port, protocol: an address object takes ten times as long to hash."""
NumberOf = Callable[[BackendKey], int]


def no_number(_: BackendKey) -> int:
    """Nobody needs one."""
    return 0


@frozen
class NodeView:
    """What this node is to services."""

    name: str = ""
    zone: str = ""
    addresses: tuple[Address, ...] = ()
    """Where node ports are served."""


@define  # made by the hundred thousand: frozen ones take twice as long
class _Candidate:
    backend: Backend
    usable: bool
    """Ready."""
    last_resort: bool
    """Serving while it terminates."""
    zones: tuple[str, ...]


def service_ports(
    service: Service,
    slices: Iterable[Slice],
    node: NodeView,
    settings: ServiceSettings,
    algorithms: Iterable[str],
    number_of: NumberOf = no_number,
) -> list[ServicePort]:
    """The rows of a service on this node; ``number_of`` gives each backend its id."""
    pieces = list(slices)
    found = []
    said = dict(service.annotations)
    algorithm = _algorithm(said, settings, algorithms)
    for version in service.families:
        if not (settings.ipv4 if version == 4 else settings.ipv6):
            continue
        for port in service.ports:
            candidates = _candidates(pieces, port, version, node, number_of)
            chosen = choose(candidates, node, topology=settings.topology and service.topology)
            local = choose([c for c in candidates if c.backend.local], node, topology=False)
            found.append(
                ServicePort(
                    key=_key(service, port, version),
                    frontends=tuple(_frontends(service, port, version, node, settings)),
                    backends=tuple(c.backend for c in candidates),
                    chosen=chosen,
                    chosen_local=local,
                    affinity_seconds=service.affinity_seconds,
                    algorithm=algorithm,
                    ranges=tuple(r for r in service.ranges if r.version == version),
                    annotations=service.annotations,
                )
            )
    return found


def _key(service: Service, port: Port, version: int) -> PortKey:
    namespace, name = service.name
    return PortKey(namespace, name, port.name or str(port.port), port.proto, version)


def _algorithm(said: dict[str, str], settings: ServiceSettings, algorithms: Iterable[str]) -> str:
    wanted = said.get(ALGORITHM, "")
    if settings.algorithm_annotation and wanted in algorithms:
        return wanted
    return settings.algorithm


def _candidates(
    slices: Sequence[Slice], port: Port, version: int, node: NodeView, number_of: NumberOf
) -> list[_Candidate]:
    """Everybody behind a port, once, sorted so that all nodes see the same order."""
    found: dict[tuple[bytes, int], _Candidate] = {}
    for piece in slices:
        for name, proto, number in piece.ports:
            if name != port.name or proto != port.proto:
                continue
            for endpoint in piece.endpoints:
                if endpoint.ready or endpoint.terminating:
                    for address in endpoint.addresses:
                        if address.version == version:
                            _add(found, endpoint, address, number, proto, node, number_of)
    return [found[key] for key in sorted(found)]


def _add(
    found: dict[tuple[bytes, int], _Candidate],
    endpoint: Endpoint,
    address: Address,
    number: int,
    proto: int,
    node: NodeView,
    number_of: NumberOf,
) -> None:
    leaving = endpoint.terminating
    usable = endpoint.ready and not leaving
    key = (address.packed, number)
    before = found.get(key)
    if before is None or (usable and not before.usable):  # slices overlap while they are rewritten
        state = State.TERMINATING if leaving else State.ACTIVE
        local = bool(node.name) and endpoint.node == node.name
        given = number_of((key[0], number, proto))
        backend = Backend(address, number, proto, state, endpoint.node, endpoint.zone, local, given)
        found[key] = _Candidate(backend, usable, leaving and endpoint.serving, endpoint.zones)


def choose(
    candidates: Sequence[_Candidate], node: NodeView, *, topology: bool
) -> tuple[Backend, ...]:
    """Who gets new flows."""
    ready = [c for c in candidates if c.usable] or [c for c in candidates if c.last_resort]
    if topology and node.zone and ready and all(c.zones for c in ready):
        near = [c for c in ready if node.zone in c.zones]
        ready = near or ready
    return tuple(c.backend for c in ready)


def _frontends(
    service: Service, port: Port, version: int, node: NodeView, settings: ServiceSettings
) -> Iterable[Frontend]:
    said = dict(service.annotations)
    wanted = {t.strip() for t in said.get(TYPES, "").split(",") if t.strip()}
    every = _flags(said, settings, port)
    ranged = Flag(0)
    if any(r.version == version for r in service.ranges) or service.ranges:
        ranged = Flag.RANGES
        if said.get(RANGES_POLICY) == "deny":
            ranged |= Flag.RANGES_DENY
    other = ranged if settings.ranges_for_all else Flag(0)
    inner = Flag(0) if settings.external_cluster_ip else Flag.CLUSTER_ONLY
    if not wanted or "ClusterIP" in wanted:
        for address in service.cluster_ips:
            if address.version == version:
                yield _frontend(service, port, address, port.port, Kind.CLUSTER_IP, every | inner)
    if not wanted or "LoadBalancer" in wanted:
        for address in service.balancer_ips:
            if address.version == version:
                yield _frontend(
                    service, port, address, port.port, Kind.LOAD_BALANCER, every | ranged
                )
    for address in service.external_ips:
        if address.version == version:
            guard = settings.external_guard and address not in node.addresses
            flags = every | other | (Flag.OUTSIDERS if guard else NO_FLAG)
            yield _frontend(service, port, address, port.port, Kind.EXTERNAL_IPS, flags)
    if port.node_port and service.type != "ClusterIP" and (not wanted or "NodePort" in wanted):
        for each in (*(a for a in node.addresses if a.version == version), None):
            yield _frontend(
                service, port, each, port.node_port, Kind.NODE_PORT, every | other, version
            )


def _flags(said: dict[str, str], settings: ServiceSettings, port: Port) -> Flag:
    mode = settings.mode
    if settings.mode_annotation and said.get(FORWARDING) in ("snat", "dsr"):
        mode = said[FORWARDING]
    dsr = mode == "dsr" or (mode == "hybrid" and port.proto == 6)
    return Flag.DSR if dsr else Flag(0)


def _frontend(
    service: Service,
    port: Port,
    address: Address | None,
    number: int,
    kind: Kind,
    flags: Flag,
    version: int = 0,
) -> Frontend:
    local_out = service.local_out and kind is not Kind.CLUSTER_IP
    local_in = service.local_in and kind is Kind.CLUSTER_IP
    if local_out:
        flags |= Flag.LOCAL_OUT
    if local_in:
        flags |= Flag.LOCAL_IN
    key = FrontendKey(address, number, port.proto, address.version if address else version)
    return Frontend(key, kind, flags, local_out or local_in, local_in)
