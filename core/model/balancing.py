"""Services as they are balanced: what plugins that make, serve or look at them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Protocol

from attrs import frozen

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
ServiceName = tuple[str, str]
"""Namespace and name."""

TCP: Final = 6
UDP: Final = 17
SCTP: Final = 132
PROTOCOLS: Final = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
PROTOCOL_NAMES: Final = {number: name for name, number in PROTOCOLS.items()}


class Kind(IntEnum):
    """What a frontend is; the words are Cilium's."""

    CLUSTER_IP = 1
    NODE_PORT = 2
    LOAD_BALANCER = 3
    EXTERNAL_IPS = 4
    HOST_PORT = 5
    LOCAL_REDIRECT = 6

    @property
    def text(self) -> str:
        """As ``service list`` prints it."""
        return _WORDS[self]


_WORDS: Final = {
    Kind.CLUSTER_IP: "ClusterIP",
    Kind.NODE_PORT: "NodePort",
    Kind.LOAD_BALANCER: "LoadBalancer",
    Kind.EXTERNAL_IPS: "ExternalIPs",
    Kind.HOST_PORT: "HostPort",
    Kind.LOCAL_REDIRECT: "LocalRedirect",
}


class Flag(IntFlag):
    """``AXO_LB_*`` of ``lb_maps.h``."""

    CLUSTER_ONLY = 0x0001
    RANGES = 0x0002
    RANGES_DENY = 0x0004
    DSR = 0x0008
    NOTHING = 0x0010
    LOCAL_OUT = 0x0020
    LOCAL_IN = 0x0040
    REDIRECT = 0x0080
    OUTSIDERS = 0x0100


NO_FLAG: Final = Flag(0)


class State(IntEnum):
    """Of a backend."""

    ACTIVE = 0
    TERMINATING = 1
    """Keeps its flows, gets no new ones unless there is nobody else."""

    @property
    def text(self) -> str:
        """As ``service list`` prints it."""
        return self.name.lower()


@frozen
class Redirect:
    """Row of table ``service_redirects``, by service and port. A port whose clients on this node
    get these backends instead of its service's; without any, those."""

    service: ServiceName
    port: str
    """Name of the port, or its number where it has none."""
    backends: tuple[tuple[Address, int], ...]
    policy: str = ""


class ExtraServices(Protocol):
    """Where plugins offer services that no Service object stands for. Provided by services."""

    def offer(self, source: str, name: str, rows: Iterable[ServicePort]) -> None:
        """All ports of one such service; none: it is gone. Numbers are given there, and a frontend
        that a Service has keeps belonging to it."""
        ...


class GoneBackends:
    """Who wants to hear of backends that have left the kernel, in whichever thread found it out."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[list[Backend]], object]] = []

    def listen(self, listener: Callable[[list[Backend]], object]) -> None:
        """Call ``listener`` with them; it must not block."""
        self._listeners.append(listener)

    def tell(self, backends: list[Backend]) -> None:
        """They are gone."""
        for listener in self._listeners:
            listener(backends)


@frozen(order=True, cache_hash=True)
class PortKey:
    """One port of a service in one family. ``port`` is its name, or its number without one."""

    namespace: str
    service: str
    port: str
    proto: int
    version: int
    source: str = ""
    """Who made it: empty for Services, else a plugin's word (``hostport``, ``file``)."""


@frozen(cache_hash=True)
class FrontendKey:
    """Where a service is reached. ``address`` ``None``: this node, for its sockets."""

    address: Address | None
    port: int
    proto: int
    version: int


@frozen
class Frontend:
    """An address and port of a service. ``id`` names it in the kernel; 0: not yet given."""

    key: FrontendKey
    kind: Kind
    flags: Flag = NO_FLAG
    local_out: bool = False
    """Outsiders get backends of this node only."""
    local_in: bool = False
    """Pods and the node get backends of this node only."""
    id: int = 0


@frozen
class Backend:
    """Somebody behind a service."""

    address: Address
    port: int
    proto: int
    state: State = State.ACTIVE
    node: str = ""
    zone: str = ""
    local: bool = False
    id: int = 0


@frozen
class ServicePort:
    """Row of table ``service_ports``. Key: ``key``. What the packet path is told of a port.

    ``chosen`` and ``chosen_local`` are those of ``backends`` that get new flows.
    """

    key: PortKey
    frontends: tuple[Frontend, ...]
    backends: tuple[Backend, ...]
    chosen: tuple[Backend, ...]
    chosen_local: tuple[Backend, ...]
    affinity_seconds: int = 0
    algorithm: str = "random"
    ranges: tuple[Network, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    number: int = 0
    """In the kernel; its sets of backends are ``2 * number`` (all) and one more (local)."""

    @property
    def set_all(self) -> int:
        """Number of the set of all backends."""
        return 2 * self.number

    @property
    def set_local(self) -> int:
        """Number of the set of this node's backends."""
        return 2 * self.number + 1
