"""Which ports of which services go to which pods of this node. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from axoneme.core.endpoints.pods import Pod
from axoneme.core.model.balancing import (
    Address,
    Backend,
    Flag,
    Frontend,
    FrontendKey,
    Kind,
    PortKey,
    Redirect,
    ServicePort,
)
from axoneme.plugins.local_redirect.policies import RedirectPolicy, RedirectPort

SOURCE = "lrp"


class PortLike(Protocol):
    """A port of a row of table ``services``."""

    @property
    def name(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def proto(self) -> int: ...


class Addressed(Protocol):
    """An endpoint."""

    @property
    def namespace(self) -> str: ...
    @property
    def pod(self) -> str: ...
    @property
    def ipv4(self) -> IPv4Address | None: ...
    @property
    def ipv6(self) -> IPv6Address | None: ...


def local_addresses(
    policy: RedirectPolicy, pods: Iterable[Pod], endpoints: Iterable[Addressed]
) -> list[Address]:
    """Addresses of this node's pods, of the policy's namespace, that it selects."""
    chosen = {
        p.name
        for p in pods
        if p.namespace == policy.name[0] and policy.pods.matches(dict(p.labels))
    }
    return [
        address
        for e in endpoints
        if e.namespace == policy.name[0] and e.pod in chosen
        for address in (e.ipv4, e.ipv6)
        if address is not None
    ]


def _back(policy: RedirectPolicy, name: str, proto: int) -> RedirectPort | None:
    fitting = [p for p in policy.ports if p.proto == proto]
    if len(policy.ports) == 1 or not name:
        return fitting[0] if fitting else None
    return next((p for p in fitting if p.name == name), None)


def redirects(
    policy: RedirectPolicy, ports: Iterable[PortLike], addresses: list[Address]
) -> Iterator[Redirect]:
    """Rows for a policy about a service with these ports."""
    for port in ports:
        wanted = policy.front_ports
        if wanted and not any((f.port, f.proto) == (port.port, port.proto) for f in wanted):
            continue
        back = _back(policy, port.name, port.proto)
        if back is not None and addresses:
            yield Redirect(
                (policy.name[0], policy.service),
                port.name or str(port.port),
                tuple((a, back.port) for a in addresses),
                "/".join(policy.name),
            )


def address_rows(policy: RedirectPolicy, addresses: list[Address]) -> list[ServicePort]:
    """Rows for a policy about an address; none without pods here."""
    found = []
    assert policy.address is not None
    for front in policy.front_ports:
        back = _back(policy, front.name, front.proto)
        same = [a for a in addresses if a.version == policy.address.version]
        if back is None or not same:
            continue
        backends = tuple(Backend(a, back.port, front.proto, local=True) for a in same)
        key = FrontendKey(policy.address, front.port, front.proto, policy.address.version)
        flags = Flag.CLUSTER_ONLY | Flag.REDIRECT
        found.append(
            ServicePort(
                key=PortKey(
                    *policy.name, str(front.port), front.proto, policy.address.version, SOURCE
                ),
                frontends=(Frontend(key, Kind.LOCAL_REDIRECT, flags),),
                backends=backends,
                chosen=backends,
                chosen_local=backends,
            )
        )
    return found
