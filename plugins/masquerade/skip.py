"""Pods that keep their address: annotation ``ipam.cilium.io/skip-masquerade``, or their pool."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, Protocol

from attrs import frozen

from axoneme.core.endpoints.pods import Pod
from axoneme.core.model.node import NodePool
from axoneme.plugins.masquerade.ipmasq import Keeps

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
ANNOTATION: Final = "ipam.cilium.io/skip-masquerade"


class Addressed(Protocol):
    """What is read of an endpoint."""

    @property
    def namespace(self) -> str: ...
    @property
    def pod(self) -> str: ...
    @property
    def ipv4(self) -> IPv4Address | None: ...
    @property
    def ipv6(self) -> IPv6Address | None: ...


@frozen
class KeptPod:
    """Row of table ``masquerade_skips``. Key: ``address``."""

    address: Address
    pod: str


@frozen
class PodKey:
    """``struct axo_masq_pod_key``."""

    addr: Address


def kept(
    pods: Iterable[Pod], endpoints: Iterable[Addressed], networks: Collection[Network] = ()
) -> Iterator[KeptPod]:
    """Addresses of the pods that say so, and those in ``networks``."""
    named = {(p.namespace, p.name) for p in pods if dict(p.annotations).get(ANNOTATION) == "true"}
    for endpoint in endpoints:
        every = (endpoint.namespace, endpoint.pod) in named
        for address in (endpoint.ipv4, endpoint.ipv6):
            if address is not None and (every or any(address in n for n in networks)):
                yield KeptPod(address, f"{endpoint.namespace}/{endpoint.pod}")


def other_pools(pools: Iterable[NodePool], default: str) -> list[Network]:
    """A node's blocks of all pools but the default one."""
    return [cidr for pool in pools if pool.name != default for cidr in pool.cidrs]


def encode(row: KeptPod) -> tuple[Any, Any]:
    """An entry of ``axo_masq_skip``."""
    return PodKey(row.address), Keeps()
