"""Models of ``axo_endpoints`` and ``axo_ep_by_if``, bound by name to ``bpf/include/axo/maps.h``."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

from axoneme.core.endpoints.tables import EndpointAddress, EndpointInterface


@frozen
class AddressKey:
    """``struct axo_endpoint_key``."""

    ip: IPv4Address | IPv6Address


@frozen
class AddressValue:
    """``struct axo_endpoint``."""

    ifindex: int
    id: int
    flags: int
    identity: int
    mac: str
    host_mac: str


@frozen
class InterfaceKey:
    """``struct axo_ep_if_key``."""

    ifindex: int


@frozen
class InterfaceValue:
    """``struct axo_ep_if``."""

    id: int
    flags: int
    identity: int
    ipv4: IPv4Address | IPv6Address | None
    ipv6: IPv4Address | IPv6Address | None


def encode_address(row: EndpointAddress) -> tuple[AddressKey, AddressValue]:
    """The entry of an address."""
    return AddressKey(row.address), AddressValue(
        row.ifindex, row.id, row.flags, row.identity, row.mac, row.host_mac
    )


def encode_interface(row: EndpointInterface) -> tuple[InterfaceKey, InterfaceValue]:
    """The entry of a device."""
    return InterfaceKey(row.ifindex), InterfaceValue(
        row.id, row.flags, row.identity, row.ipv4, row.ipv6
    )
