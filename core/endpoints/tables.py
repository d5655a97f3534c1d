"""The tables about endpoints, and the rows that the packet path is programmed from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import frozen

from axoneme.core.model.endpoint import AddressPair, Endpoint
from axoneme.core.state import Table, TableRegistry

FLAG_HOST: Final = 1
"""``AXO_EP_HOST``: an address of this node, not a pod's."""

Address = IPv4Address | IPv6Address


@frozen
class EndpointAddress:
    """Row of table ``endpoint_addresses``, key ``address``: who has an address on this node."""

    address: Address
    ifindex: int
    id: int
    flags: int
    identity: int
    mac: str
    host_mac: str


@frozen
class EndpointInterface:
    """Row of table ``endpoint_interfaces``, key ``ifindex``: who sits behind a device."""

    ifindex: int
    id: int
    flags: int
    identity: int
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None


def endpoint_table(tables: TableRegistry) -> Table[int, Endpoint]:
    """Make table ``endpoints``; indexes ``attachment``, ``pod``, ``identity``, ``address``."""
    return tables.create(
        "endpoints",
        Endpoint,
        key=lambda r: r.id,
        indexes={
            "attachment": lambda r: [r.attachment_id],
            "pod": lambda r: [(r.namespace, r.pod)] if r.pod else [],
            "identity": lambda r: [r.identity],
            "address": lambda r: list(AddressPair(r.ipv4, r.ipv6)),
        },
    )


def address_table(tables: TableRegistry) -> Table[Address, EndpointAddress]:
    """Make table ``endpoint_addresses``; index ``id``."""
    return tables.create(
        "endpoint_addresses",
        EndpointAddress,
        key=lambda r: r.address,
        indexes={"id": lambda r: [r.id]},
    )


def interface_table(tables: TableRegistry) -> Table[int, EndpointInterface]:
    """Make table ``endpoint_interfaces``."""
    return tables.create("endpoint_interfaces", EndpointInterface, key=lambda r: r.ifindex)


def address_rows(endpoint: Endpoint) -> list[EndpointAddress]:
    """The rows of an endpoint's addresses."""
    return [
        EndpointAddress(
            address,
            endpoint.ifindex,
            endpoint.id,
            0,
            endpoint.identity,
            endpoint.mac,
            endpoint.host_mac,
        )
        for address in AddressPair(endpoint.ipv4, endpoint.ipv6)
    ]


def interface_row(endpoint: Endpoint) -> EndpointInterface:
    """The row of an endpoint's device."""
    return EndpointInterface(
        endpoint.ifindex, endpoint.id, 0, endpoint.identity, endpoint.ipv4, endpoint.ipv6
    )
