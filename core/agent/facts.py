"""What the packet path must know of the node, derived again whenever the node changes."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import TYPE_CHECKING

from axoneme.core.datapath.attachments import Attachment
from axoneme.core.devices import NodeDevices
from axoneme.core.endpoints.tables import FLAG_HOST, EndpointAddress
from axoneme.core.identities.reserved import world_identity
from axoneme.core.ipcache.ipcache import host_prefix
from axoneme.core.model.identity import Reserved
from axoneme.core.netlink.links import LinkInfo
from axoneme.core.nodes.network import HOST
from axoneme.core.nodes.runtime import RuntimeFact, address_facts, mac_fact, number_fact

if TYPE_CHECKING:
    from axoneme.core.agent.agent import Agent

FROM_NETDEV = ("tc-ingress", "from_netdev")
TO_NETDEV = ("tc-egress", "to_netdev")

CORE_FACTS = (
    "HOST_IFINDEX",
    "ROUTER_V4",
    "ROUTER_V6_HI",
    "ROUTER_V6_LO",
    "ROUTER_MAC",
    "NATIVE_IFINDEX",
    "MTU",
    "WORLD_V4",
    "WORLD_V6",
    "NODE_V4",
    "NODE_V6_HI",
    "NODE_V6_LO",
)
"""Slots that the core writes; plugins write others into table ``runtime``."""


def host_addresses(agent: Agent) -> set[IPv4Address | IPv6Address]:
    """Every address that is this node itself; it hears what is sent to its networks' broadcast."""
    node = agent.node
    found = {a for d in node.devices.devices for a in d.addresses}
    found |= set(node.devices.others)
    return found | broadcasts(node.devices) | set(node.internal) | set(node.routers)


def broadcasts(devices: NodeDevices) -> set[IPv4Address]:
    """Broadcast addresses of the connected networks (RFC 3021: a /31 has none)."""
    networks = {n for d in devices.devices for n in d.networks}
    return {
        n.broadcast_address for n in networks if isinstance(n, IPv4Network) and n.prefixlen < 31
    }


def write_host_rows(agent: Agent, links: Mapping[str, LinkInfo]) -> None:
    """The node's own addresses into ``endpoint_addresses`` and the ipcache."""
    host = links.get(HOST)
    index, mac = (host.index, host.mac) if host else (0, "")
    wanted = host_addresses(agent)
    rows = [EndpointAddress(a, index, 0, FLAG_HOST, int(Reserved.HOST), mac, mac) for a in wanted]
    table = agent.tables["endpoint_addresses"]
    for row in table.rows():
        if row.flags & FLAG_HOST and row.address not in wanted:
            agent.ipcache.delete(host_prefix(row.address), "host")
    table.replace(rows, where=lambda row: bool(row.flags & FLAG_HOST))
    for address in wanted:
        agent.ipcache.upsert(host_prefix(address), int(Reserved.HOST), source="host")


def write_facts(agent: Agent, links: Mapping[str, LinkInfo]) -> None:
    """The core's slots of ``axo_runtime``."""
    node, dual = agent.node, agent.dual_stack
    host, direct = links.get(HOST), node.devices.direct
    facts: list[RuntimeFact] = [
        number_fact("MTU", agent.pod_mtu()),
        number_fact("WORLD_V4", int(world_identity(4, dual_stack=dual))),
        number_fact("WORLD_V6", int(world_identity(6, dual_stack=dual))),
        number_fact("NATIVE_IFINDEX", direct.index if direct else 0),
    ]
    if host is not None:
        facts += [number_fact("HOST_IFINDEX", host.index), mac_fact("ROUTER_MAC", host.mac)]
    for router in node.routers:
        facts += address_facts("ROUTER", router)
    for address in node.internal:
        facts += address_facts("NODE", address)
    agent.tables["runtime"].replace(facts, where=lambda row: row.name in CORE_FACTS)


def write_device_attachments(agent: Agent) -> None:
    """Programs of the native devices."""
    names = agent.datapath.programs
    wanted = [
        Attachment(device.index, device.name, hook, program)
        for device in agent.node.devices.devices
        for hook, program in (FROM_NETDEV, TO_NETDEV)
        if program in names
    ]
    agent.datapath.attachments.replace(
        wanted, where=lambda row: row.program in (FROM_NETDEV[1], TO_NETDEV[1])
    )
