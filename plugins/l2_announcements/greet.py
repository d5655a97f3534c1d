"""Telling neighbours of a new way to an address: gratuitous ARP (RFC 5227 3), unsolicited
neighbour advertisement (RFC 4861 7.2.6). And hearing what they ask: the group of an address."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

Address = IPv4Address | IPv6Address

ETH_P_ARP: Final = 0x0806
ETH_P_IPV6: Final = 0x86DD
SIOCADDMULTI: Final = 0x8931
SIOCDELMULTI: Final = 0x8932
_OVERRIDE: Final = 0x20000000


def frame(address: Address, mac: str) -> bytes:
    """What is sent to everybody on the link."""
    raw = bytes.fromhex(mac.replace(":", ""))
    if address.version == 4:
        ethernet = b"\xff" * 6 + raw + struct.pack("!H", ETH_P_ARP)
        head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
        return ethernet + head + raw + address.packed + bytes(6) + address.packed
    everybody = IPv6Address("ff02::1").packed
    nd = struct.pack("!BBHI", 136, 0, 0, _OVERRIDE) + address.packed + b"\x02\x01" + raw
    pseudo = address.packed + everybody + struct.pack("!II", len(nd), 58)
    checked = nd[:2] + struct.pack("!H", _checksum(pseudo + nd)) + nd[4:]
    header = struct.pack("!IHBB", 0x60000000, len(nd), 58, 255) + address.packed + everybody
    return bytes.fromhex("333300000001") + raw + struct.pack("!H", ETH_P_IPV6) + header + checked


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def greet(address: Address, ifname: str, mac: str) -> None:
    """Send it once; a device that is gone is no error."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind((ifname, 0))
        link.send(frame(address, mac))


def group_mac(address: IPv6Address) -> bytes:
    """Ethernet address of the solicited-node group (RFC 4291 2.7.1, RFC 2464 7)."""
    return b"\x33\x33\xff" + address.packed[13:]


def hear(address: Address, ifname: str, *, on: bool) -> None:
    """Let the device receive solicitations for an IPv6 address, or no more."""
    if not isinstance(address, IPv6Address):
        return
    request = struct.pack("16sH6s8x", ifname.encode(), 0, group_mac(address))
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket,
    ):
        fcntl.ioctl(any_socket, SIOCADDMULTI if on else SIOCDELMULTI, request)
