"""Which addresses this node would announce, and where. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, Protocol

from attrs import frozen

from axoneme.plugins.l2_announcements.policies import L2Policy

Address = IPv4Address | IPv6Address
ServiceName = tuple[str, str]
CLASSES: Final = ("", "io.cilium/l2-announcer")


class ServiceLike(Protocol):
    """What is read of a row of table ``services``."""

    @property
    def name(self) -> ServiceName: ...
    @property
    def labels(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def external_ips(self) -> tuple[Any, ...]: ...
    @property
    def balancer_ips(self) -> tuple[Any, ...]: ...
    @property
    def balancer_class(self) -> str: ...
    @property
    def local_out(self) -> bool: ...


class DeviceLike(Protocol):
    """A native device."""

    @property
    def name(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def mac(self) -> str: ...


@frozen
class Announcement:
    """Row of table ``l2_announcements``. Key: address and ``ifindex``."""

    address: Address
    ifindex: int
    ifname: str
    mac: str
    service: ServiceName


def lease_name(service: ServiceName) -> str:
    """One lease for each service."""
    return f"cilium-l2announce-{service[0]}-{service[1]}"


def announcements(
    services: Iterable[ServiceLike],
    policies: Iterable[L2Policy],
    node_labels: Mapping[str, str],
    devices: Iterable[DeviceLike],
    has_local: Iterable[ServiceName],
) -> dict[ServiceName, tuple[Announcement, ...]]:
    """What this node may announce, by service, if it gets the lease.

    A service with externalTrafficPolicy Local is only for nodes that have a backend of it.
    """
    mine = [p for p in policies if p.nodes.matches(node_labels)]
    every, local = list(devices), set(has_local)
    found = {}
    for service in services:
        if service.balancer_class not in CLASSES:
            continue
        if service.local_out and service.name not in local:
            continue
        rows = dict.fromkeys(_of(service, mine, every))
        if rows:
            found[service.name] = tuple(rows)
    return found


def _of(
    service: ServiceLike, policies: list[L2Policy], devices: list[DeviceLike]
) -> Iterator[Announcement]:
    labels = dict(service.labels)
    for policy in policies:
        if not policy.services.matches(labels):
            continue
        addresses = (service.external_ips if policy.external_ips else ()) + (
            service.balancer_ips if policy.balancer_ips else ()
        )
        for address in addresses:
            for device in devices:
                if device.mac and policy.takes_device(device.name):
                    yield Announcement(address, device.index, device.name, device.mac, service.name)
