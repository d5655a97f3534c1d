"""Link messages: make, change, remove, read. Numbers from ``linux/if_link.h``.

The attributes of vxlan and geneve are tables; names are those of ``ip link`` and pyroute2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final

from attrs import evolve, frozen

from axoneme.core.errors import NetlinkError
from axoneme.core.netlink import wire
from axoneme.core.netlink.wire import Message, NetlinkSocket, attributes, cstring, number

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18

IFINFO: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change

IFF_UP: Final = 0x1
IFF_NOARP: Final = 0x80

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_GROUP: Final = 27
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_GSO_MAX_SIZE: Final = 41
IFLA_GRO_MAX_SIZE: Final = 58
INFO_KIND: Final = 1
INFO_DATA: Final = 2
VETH_INFO_PEER: Final = 1
BRIDGE_SKIP_STATS: Final = 1 << 3  # RTEXT_FILTER_SKIP_STATS

Encoder = Callable[[int, Any], bytes]


def _flag(kind: int, value: object) -> bytes:
    return wire.u8(kind, 1 if value else 0)


def _presence(kind: int, value: object) -> bytes:
    return wire.attribute(kind, b"") if value else b""


def _address(kind: int, value: object) -> bytes:
    return wire.attribute(kind, ip_address(str(value)).packed)


VXLAN: Final[Mapping[str, tuple[int, Encoder]]] = {
    "vxlan_id": (1, wire.u32),
    "vxlan_group": (2, _address),
    "vxlan_link": (3, wire.u32),
    "vxlan_local": (4, _address),
    "vxlan_ttl": (5, wire.u8),
    "vxlan_learning": (7, _flag),
    "vxlan_ageing": (8, wire.u32),
    "vxlan_port": (15, wire.be16),
    "vxlan_udp_csum": (18, _flag),
    "vxlan_udp_zero_csum6_tx": (19, _flag),
    "vxlan_udp_zero_csum6_rx": (20, _flag),
    "vxlan_gbp": (23, _presence),
    "vxlan_collect_metadata": (25, _flag),
    "vxlan_df": (29, wire.u8),
}
GENEVE: Final[Mapping[str, tuple[int, Encoder]]] = {
    "geneve_id": (1, wire.u32),
    "geneve_remote": (2, _address),
    "geneve_ttl": (3, wire.u8),
    "geneve_port": (5, wire.be16),
    "geneve_collect_metadata": (6, _presence),
    "geneve_udp_csum": (8, _flag),
    "geneve_udp_zero_csum6_tx": (9, _flag),
    "geneve_udp_zero_csum6_rx": (10, _flag),
    "geneve_df": (13, wire.u8),
}
BRIDGE: Final[Mapping[str, tuple[int, Encoder]]] = {
    "br_forward_delay": (1, wire.u32),
    "br_ageing_time": (4, wire.u32),
    "br_stp_state": (5, wire.u32),
    "br_vlan_filtering": (7, _flag),
    "br_mcast_snooping": (23, _flag),
}
KINDS: Final[Mapping[str, Mapping[str, tuple[int, Encoder]]]] = {
    "vxlan": VXLAN,
    "geneve": GENEVE,
    "bridge": BRIDGE,
    "veth": {},
    "ifb": {},
    "dummy": {},
}
"""Kinds whose messages we make ourselves; every other goes through pyroute2."""


@frozen
class LinkInfo:
    """A link as the kernel describes it."""

    index: int
    name: str
    kind: str = ""
    flags: int = 0
    mtu: int = 0
    mac: str = ""
    alias: str = ""
    master: int = 0
    peer_index: int = 0
    """``IFLA_LINK``: the veth peer's index (in its own namespace), or the device below."""
    data: tuple[tuple[int, bytes], ...] = ()
    """Raw attributes of the kind."""
    type: int = 1
    """ARPHRD number: 1 Ethernet, 772 loopback, 65534 none."""

    @property
    def up(self) -> bool:
        """Administratively up."""
        return bool(self.flags & IFF_UP)

    @property
    def arp(self) -> bool:
        """Whether neighbours are resolved on it."""
        return not self.flags & IFF_NOARP


def mac_bytes(mac: str) -> bytes:
    """Six bytes of ``aa:bb:cc:dd:ee:ff``."""
    try:
        value = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        value = b""
    if len(value) != 6:
        raise NetlinkError(f"{mac!r} is not a hardware address", errno=22)
    return value


def _checked(name: str) -> str:
    if not 0 < len(name.encode()) < 16 or "/" in name or any(c.isspace() for c in name):
        raise NetlinkError(f"link {name!r}: not a name (1 to 15 bytes)", errno=22)
    return name


def _properties(name: str, mtu: int, mac: str) -> bytes:
    parts = [wire.text(IFLA_IFNAME, _checked(name))]
    if mtu:
        parts.append(wire.u32(IFLA_MTU, mtu))
    if mac:
        parts.append(wire.attribute(IFLA_ADDRESS, mac_bytes(mac)))
    return b"".join(parts)


def create_veth(
    name: str,
    peer: str,
    *,
    peer_netns_fd: int | None = None,
    mtu: int = 0,
    mac: str = "",
    peer_mac: str = "",
    up: bool = True,
    gso_max_size: int = 0,
    gro_max_size: int = 0,
) -> Message:
    """A pair in one message: both ends named, addressed, sized, and the peer where it belongs.

    The peer stays down: it cannot be up before the pair is joined. The kernel also ignores an
    alias in a message that makes a link. For both send :func:`change` after it.
    """
    state = IFF_UP if up else 0
    sizes = b""
    if gso_max_size:
        sizes += wire.u32(IFLA_GSO_MAX_SIZE, gso_max_size)
    if gro_max_size:
        sizes += wire.u32(IFLA_GRO_MAX_SIZE, gro_max_size)
    other = IFINFO.pack(0, 0, 0, 0, 0) + _properties(peer, mtu, peer_mac)
    if peer_netns_fd is not None:
        other += wire.u32(IFLA_NET_NS_FD, peer_netns_fd)
    body = IFINFO.pack(0, 0, 0, state, state) + _properties(name, mtu, mac) + sizes
    body += wire.nest(
        IFLA_LINKINFO,
        wire.attribute(INFO_KIND, b"veth"),
        wire.nest(INFO_DATA, wire.attribute(VETH_INFO_PEER | wire.NESTED, other + sizes)),
    )
    return Message(RTM_NEWLINK, wire.CREATE | wire.EXCL, body, f"link {name}")


def create(
    name: str,
    kind: str,
    values: Mapping[str, Any],
    *,
    mtu: int = 0,
    mac: str = "",
    arp: bool = True,
    up: bool = True,
) -> Message:
    """A link of a kind in :data:`KINDS`; ``ValueError`` for an attribute that it has not."""
    table = KINDS[kind]
    data = b""
    for key, value in values.items():
        if key not in table:
            known = ", ".join(sorted(table)) or "none"
            raise NetlinkError(
                f"link {name}: {kind} has no attribute {key!r}", errno=22, hint=f"known: {known}"
            )
        attribute, encode = table[key]
        data += encode(attribute, value)
    flags = (IFF_UP if up else 0) | (0 if arp else IFF_NOARP)
    body = IFINFO.pack(0, 0, 0, flags, flags) + _properties(name, mtu, mac)
    info = [wire.attribute(INFO_KIND, kind.encode())]
    if data:
        info.append(wire.nest(INFO_DATA, data))
    body += wire.nest(IFLA_LINKINFO, *info)
    return Message(RTM_NEWLINK, wire.CREATE | wire.EXCL, body, f"link {name}")


def change(
    link: str | int,
    *,
    up: bool | None = None,
    arp: bool | None = None,
    mtu: int = 0,
    mac: str = "",
    alias: str | None = None,
    netns_fd: int | None = None,
    name: str = "",
) -> Message:
    """Change a link found by name or index."""
    flags = mask = 0
    for wanted, bit, inverted in ((up, IFF_UP, False), (arp, IFF_NOARP, True)):
        if wanted is not None:
            mask |= bit
            flags |= bit if wanted != inverted else 0
    index = link if isinstance(link, int) else 0
    body = IFINFO.pack(0, 0, index, flags, mask)
    if isinstance(link, str):
        body += wire.text(IFLA_IFNAME, _checked(link))
    elif name:
        body += wire.text(IFLA_IFNAME, _checked(name))
    if mtu:
        body += wire.u32(IFLA_MTU, mtu)
    if mac:
        body += wire.attribute(IFLA_ADDRESS, mac_bytes(mac))
    if alias is not None:
        body += wire.attribute(IFLA_IFALIAS, alias.encode()[:255])
    if netns_fd is not None:
        body += wire.u32(IFLA_NET_NS_FD, netns_fd)
    return Message(RTM_NEWLINK, 0, body, f"link {link}")


def delete(link: str | int) -> Message:
    """Remove a link; a veth's peer goes with it, in whatever namespace."""
    index = link if isinstance(link, int) else 0
    body = IFINFO.pack(0, 0, index, 0, 0)
    if isinstance(link, str):
        body += wire.text(IFLA_IFNAME, _checked(link))
    return Message(RTM_DELLINK, 0, body, f"link {link}")


def set_group(link: str | int, group: int) -> Message:
    """Put a link into a group."""
    message = change(link)
    return evolve(message, body=message.body + wire.u32(IFLA_GROUP, group))


def delete_group(group: int) -> Message:
    """Remove every link of a group; the kernel waits once for all of them."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + wire.u32(IFLA_GROUP, group)
    return Message(RTM_DELLINK, 0, body, f"links of group {group:#x}")


def get(netlink: NetlinkSocket, link: str | int) -> LinkInfo:
    """One link; :class:`NetlinkError` with ENODEV if there is none."""
    index = link if isinstance(link, int) else 0
    body = IFINFO.pack(0, 0, index, 0, 0)
    if isinstance(link, str):
        body += wire.text(IFLA_IFNAME, _checked(link))
    body += wire.u32(IFLA_EXT_MASK, BRIDGE_SKIP_STATS)
    return decode(netlink.get(RTM_GETLINK, body, f"link {link}"))


def dump(netlink: NetlinkSocket) -> list[LinkInfo]:
    """Every link of the namespace."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + wire.u32(IFLA_EXT_MASK, BRIDGE_SKIP_STATS)
    return [decode(x) for x in netlink.dump(RTM_GETLINK, body, "links")]


def decode(body: bytes) -> LinkInfo:
    """A link out of the body of RTM_NEWLINK."""
    _family, arphrd, index, flags, _change = IFINFO.unpack_from(body)
    found = attributes(body, IFINFO.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    return LinkInfo(
        index=index,
        name=cstring(found.get(IFLA_IFNAME, b"")),
        kind=cstring(info.get(INFO_KIND, b"")),
        flags=flags,
        mtu=number(found.get(IFLA_MTU, b"")),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        alias=cstring(found.get(IFLA_IFALIAS, b"")),
        master=number(found.get(IFLA_MASTER, b"")),
        peer_index=number(found.get(IFLA_LINK, b"")),
        data=tuple(sorted(attributes(info.get(INFO_DATA, b"")).items())),
        type=arphrd,
    )


def differs(info: LinkInfo, kind: str, values: Mapping[str, Any]) -> bool:
    """Whether a link lacks what is asked of its kind, so that it must be made anew."""
    if info.kind != kind:
        return True
    have = dict(info.data)
    for key, value in values.items():
        attribute, encode = KINDS[kind][key]
        wanted = attributes(encode(attribute, value)).get(attribute)
        if wanted is None:
            if attribute in have:
                return True
        elif have.get(attribute) != wanted:
            return True
    return False
