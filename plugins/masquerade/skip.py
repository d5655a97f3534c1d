"""Pods that keep their address: annotation ``ipam.cilium.io/skip-masquerade``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, Protocol

from attrs import frozen

from axoneme.core.endpoints.pods import Pod
from axoneme.plugins.masquerade.ipmasq import Keeps

Address = IPv4Address | IPv6Address
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


def kept(pods: Iterable[Pod], endpoints: Iterable[Addressed]) -> Iterator[KeptPod]:
    """Addresses of the pods that say so."""
    named = {(p.namespace, p.name) for p in pods if dict(p.annotations).get(ANNOTATION) == "true"}
    for endpoint in endpoints:
        if (endpoint.namespace, endpoint.pod) in named:
            for address in (endpoint.ipv4, endpoint.ipv6):
                if address is not None:
                    yield KeptPod(address, f"{endpoint.namespace}/{endpoint.pod}")


def encode(row: KeptPod) -> tuple[Any, Any]:
    """An entry of ``axo_masq_skip``."""
    return PodKey(row.address), Keeps()
