"""The tc way to attach a program, for kernels without tcx: clsact and a bpf filter.

``core/datapath`` asks for it through :class:`axoneme.core.netlink.api.Netlink`. Numbers from
``linux/pkt_sched.h`` and ``linux/pkt_cls.h``.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

from attrs import frozen

from axoneme.core.errors import NetlinkError
from axoneme.core.netlink import wire
from axoneme.core.netlink.wire import Message, NetlinkSocket, attributes, cstring, number

RTM_NEWQDISC: Final = 36
RTM_DELQDISC: Final = 37
RTM_NEWTFILTER: Final = 44
RTM_DELTFILTER: Final = 45
RTM_GETTFILTER: Final = 46

TCMSG: Final = struct.Struct("=BxxxiIII")  # family, index, handle, parent, info

TCA_KIND: Final = 1
TCA_OPTIONS: Final = 2
TCA_BPF_FD: Final = 6
TCA_BPF_NAME: Final = 7
TCA_BPF_FLAGS: Final = 8
TCA_BPF_ID: Final = 11
DIRECT_ACTION: Final = 1

CLSACT: Final = 0xFFFFFFF1
PARENTS: Final = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
ETH_P_ALL: Final = 0x0300  # 0x0003 in network order

PRIORITY: Final = 1


@frozen
class FilterInfo:
    """A bpf filter on a link."""

    handle: int
    priority: int
    name: str
    program_id: int


def _info(priority: int) -> int:
    return priority << 16 | ETH_P_ALL


def _parent(direction: str) -> int:
    if direction not in PARENTS:
        raise NetlinkError(f"tc direction {direction!r}: not ingress or egress", errno=22)
    return PARENTS[direction]


def add_clsact(index: int) -> Message:
    """The queueing discipline that the filters hang on; EEXIST is fine to the caller."""
    body = TCMSG.pack(0, index, 0xFFFF0000, CLSACT, 0) + wire.text(TCA_KIND, "clsact")
    return Message(RTM_NEWQDISC, wire.CREATE | wire.EXCL, body, f"clsact on link {index}")


def delete_clsact(index: int) -> Message:
    """Remove it with all its filters, other people's too."""
    body = TCMSG.pack(0, index, 0xFFFF0000, CLSACT, 0) + wire.text(TCA_KIND, "clsact")
    return Message(RTM_DELQDISC, 0, body, f"clsact on link {index}")


def replace_filter(
    index: int, direction: str, fd: int, *, handle: int, name: str, priority: int = PRIORITY
) -> Message:
    """Attach a program, or swap the one with this handle in one step: no packet goes without."""
    options = wire.nest(
        TCA_OPTIONS,
        wire.u32(TCA_BPF_FD, fd),
        wire.text(TCA_BPF_NAME, name),
        wire.u32(TCA_BPF_FLAGS, DIRECT_ACTION),
    )
    body = TCMSG.pack(0, index, handle, _parent(direction), _info(priority))
    body += wire.text(TCA_KIND, "bpf") + options
    what = f"bpf filter {name} on link {index} {direction}"
    return Message(RTM_NEWTFILTER, wire.CREATE | wire.REPLACE, body, what)


def delete_filter(index: int, direction: str, handle: int, priority: int = PRIORITY) -> Message:
    """Detach the program with this handle."""
    body = TCMSG.pack(0, index, handle, _parent(direction), _info(priority))
    body += wire.text(TCA_KIND, "bpf")
    return Message(RTM_DELTFILTER, 0, body, f"bpf filter on link {index} {direction}")


def filters(netlink: NetlinkSocket, index: int, direction: str) -> list[FilterInfo]:
    """The bpf filters of a link in one direction; none when there is no clsact."""
    body = TCMSG.pack(0, index, 0, _parent(direction), 0)
    try:
        bodies = netlink.dump(RTM_GETTFILTER, body, f"filters of link {index}")
    except NetlinkError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return []
        raise
    return [x for x in map(_decode, bodies) if x is not None]


def _decode(body: bytes) -> FilterInfo | None:
    _, _, handle, _, info = TCMSG.unpack_from(body)
    found = attributes(body, TCMSG.size)
    if cstring(found.get(TCA_KIND, b"")) != "bpf" or not handle:
        return None
    options = attributes(found.get(TCA_OPTIONS, b""))
    name = cstring(options.get(TCA_BPF_NAME, b""))
    return FilterInfo(handle, info >> 16, name, number(options.get(TCA_BPF_ID, b"")))
