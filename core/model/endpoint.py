"""Endpoints: what the core manages on a node, one per pod interface."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import Factory, define, frozen

from axoneme.core.model.labels import LabelSet


class EndpointState(StrEnum):
    """States as CiliumEndpoint prints them."""

    CREATING = "creating"
    WAITING_FOR_IDENTITY = "waiting-for-identity"
    NOT_READY = "not-ready"
    REGENERATING = "regenerating"
    RESTORING = "restoring"
    READY = "ready"
    DISCONNECTING = "disconnecting"
    DISCONNECTED = "disconnected"
    INVALID = "invalid"


@frozen
class AddressPair:
    """The addresses of an endpoint; either may be missing, not both."""

    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(tuple(a for a in (self.ipv4, self.ipv6) if a is not None))


@frozen
class AddressRequest:
    """What an allocator is asked: who wants addresses, and which ones on a restore."""

    owner: str
    """``namespace/pod`` or an attachment id; names the owner in errors and views."""
    ipv4: bool
    ipv6: bool
    wanted: AddressPair | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    """Of the pod."""
    namespace: str = ""
    pod: str = ""


@frozen
class NamedPort:
    """A container port with a name, for policies that name ports."""

    name: str
    port: int
    protocol: str  # TCP | UDP | SCTP


NO_LABELS: Final = LabelSet()


@frozen
class Endpoint:
    """Row of table ``endpoints``. Key: ``id``."""

    id: int
    """1 to 65535, unique on the node."""
    attachment_id: str
    """``<containerID>:<ifname>``, the runtime's name for this interface."""
    namespace: str
    pod: str
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    ifname: str
    """Host side of the veth, ``axo`` and ten hexadecimal digits."""
    ifindex: int
    container_ifname: str
    netns: str
    mac: str
    """Of the pod's side, ``aa:bb:cc:dd:ee:ff``."""
    host_mac: str
    mtu: int
    labels: LabelSet = NO_LABELS
    identity: int = 0
    state: EndpointState = EndpointState.CREATING
    named_ports: tuple[NamedPort, ...] = ()
    policy_revision: int = 0
    message: str = ""
    uid: str = ""
    """Of the pod; two pods of one name differ in it."""

    @property
    def name(self) -> str:
        """``namespace/pod``, or the attachment id of an endpoint without a pod."""
        return f"{self.namespace}/{self.pod}" if self.pod else self.attachment_id


@define
class InterfaceSettings:
    """What plugins may change before a pod's link is made."""

    mtu: int = 1500
    gso_max_size: int = 0
    gro_max_size: int = 0
    sysctls: dict[str, str] = Factory(dict)
    """Of the pod's namespace, dotted names: ``net.ipv4.ip_local_reserved_ports``."""
    route_mtu: int = 0
    """MTU on the pod's default route; 0 leaves it to the link."""
