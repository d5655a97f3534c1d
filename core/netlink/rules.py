"""Routing rules: the table of a marked packet. Numbers from ``linux/fib_rules.h``."""

from __future__ import annotations

import errno
from typing import Final

from axoneme.core.errors import NetlinkError
from axoneme.core.model.network import ROUTE_PROTOCOL
from axoneme.core.netlink import wire
from axoneme.core.netlink.addresses import family
from axoneme.core.netlink.routes import RTMSG
from axoneme.core.netlink.wire import Message, NetlinkSocket, attributes, number

RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
RTM_GETRULE: Final = 34
TO_TABLE: Final = 1
FRA_PRIORITY: Final = 6
FRA_FWMARK: Final = 10
FRA_TABLE: Final = 15
FRA_FWMASK: Final = 16
FRA_PROTOCOL: Final = 21


def ensure_mark_rule(
    netlink: NetlinkSocket, version: int, *, mark: int, mask: int, table: int, priority: int
) -> bool:
    """Have packets of an IP version with a mark looked up in ``table``; whether it was missing.

    Raises :class:`NetlinkError`.
    """
    if any(_is(body, mark, table, priority) for body in _dump(netlink, version)):
        return False
    what = f"rule fwmark {mark:#x}/{mask:#x} table {table}"
    body = _body(version, mark, mask, table, priority)
    try:
        netlink.request(Message(RTM_NEWRULE, wire.CREATE | wire.EXCL, body, what))
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def remove_mark_rule(
    netlink: NetlinkSocket, version: int, *, mark: int, mask: int, table: int, priority: int
) -> None:
    """Take such a rule away; none is fine."""
    body = _body(version, mark, mask, table, priority)
    try:
        netlink.request(Message(RTM_DELRULE, 0, body, f"rule table {table}"))
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise


def _dump(netlink: NetlinkSocket, version: int) -> list[bytes]:
    return netlink.dump(RTM_GETRULE, RTMSG.pack(family(version), 0, 0, 0, 0, 0, 0, 0, 0), "rules")


def _is(body: bytes, mark: int, table: int, priority: int) -> bool:
    found = attributes(body, RTMSG.size)
    return (
        number(found.get(FRA_FWMARK, b"")) == mark
        and number(found.get(FRA_TABLE, b"")) == table
        and number(found.get(FRA_PRIORITY, b"")) == priority
        and found.get(FRA_PROTOCOL, b"\0")[0] == ROUTE_PROTOCOL
    )


def _body(version: int, mark: int, mask: int, table: int, priority: int) -> bytes:
    head = RTMSG.pack(family(version), 0, 0, 0, 0, 0, 0, TO_TABLE, 0)
    return head + b"".join(
        (
            wire.u32(FRA_PRIORITY, priority),
            wire.u32(FRA_FWMARK, mark),
            wire.u32(FRA_FWMASK, mask),
            wire.u32(FRA_TABLE, table),
            wire.u8(FRA_PROTOCOL, ROUTE_PROTOCOL),
        )
    )
