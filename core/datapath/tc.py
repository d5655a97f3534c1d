"""Classic attachment: the clsact qdisc and its ``bpf`` filters, for kernels without tcx.

Four small rtnetlink requests, written out here because the filter takes the descriptor of a
loaded program. Ours is the filter with our priority and handle, and nothing else is touched;
replacing it under the same handle is one step. Layouts: ``linux/rtnetlink.h``,
``linux/pkt_cls.h``; numbers are in host order unless noted.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from axoneme.core.errors import DatapathError

PRIORITY: Final = 165
HANDLE: Final = 0xA5
INGRESS: Final = 0xFFFFFFF2
"""Parent of ingress filters (``TC_H_MIN_INGRESS``); egress is one more."""
EGRESS: Final = 0xFFFFFFF3
_CLSACT_HANDLE: Final = 0xFFFF0000
_CLSACT_PARENT: Final = 0xFFFFFFF1
_RTM_NEWQDISC, _RTM_NEWTFILTER, _RTM_DELTFILTER, _RTM_GETTFILTER = 36, 44, 45, 46
_REQUEST, _ACK, _DUMP, _REPLACE, _EXCL, _CREATE = 1, 4, 0x300, 0x100, 0x200, 0x400
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_BPF_FD, _TCA_BPF_NAME, _TCA_BPF_FLAGS, _TCA_BPF_ID = 6, 7, 8, 11
_DIRECT_ACTION: Final = 1
_ETH_P_ALL: Final = 0x0003
_NLMSG_ERROR, _NLMSG_DONE = 2, 3


@frozen
class Filter:
    """Our filter on a device: the id and name of its program."""

    prog_id: int
    name: str


def _attribute(kind: int, payload: bytes) -> bytes:
    size = 4 + len(payload)
    return struct.pack("=HH", size, kind) + payload + bytes(-size % 4)


def _tcmsg(ifindex: int, handle: int, parent: int, info: int) -> bytes:
    return struct.pack("=BxxxiIII", socket.AF_UNSPEC, ifindex, handle, parent, info)


def _filter_info() -> int:
    return PRIORITY << 16 | socket.htons(_ETH_P_ALL)


def _exchange(kind: int, flags: int, payload: bytes) -> Iterator[bytes]:
    """Send one request; yields the payloads of the answer; raises ``OSError``."""
    message = struct.pack("=IHHII", 16 + len(payload), kind, flags | _REQUEST, 1, 0) + payload
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(5.0)
        sock.send(message)
        while True:
            data = sock.recv(1 << 16)
            while len(data) >= 16:
                size, answer, _, _, _ = struct.unpack_from("=IHHII", data)
                body, data = data[16:size], data[(size + 3) & ~3 :]
                if answer == _NLMSG_DONE:
                    return
                if answer == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield body


def _run(kind: int, flags: int, payload: bytes) -> None:
    for _ in _exchange(kind, flags | _ACK, payload):
        pass


def attach(ifindex: int, parent: int, prog_fd: int, name: str) -> None:
    """Put our filter on a device, or replace its program in one step."""
    qdisc = _tcmsg(ifindex, _CLSACT_HANDLE, _CLSACT_PARENT, 0)
    try:
        _run(_RTM_NEWQDISC, _CREATE | _EXCL, qdisc + _attribute(_TCA_KIND, b"clsact\0"))
    except OSError as exc:
        if exc.errno != errno.EEXIST:
            raise _failed(ifindex, "clsact cannot be added", exc) from exc
    options = (
        _attribute(_TCA_BPF_FD, struct.pack("=I", prog_fd))
        + _attribute(_TCA_BPF_NAME, name.encode() + b"\0")
        + _attribute(_TCA_BPF_FLAGS, struct.pack("=I", _DIRECT_ACTION))
    )
    payload = (
        _tcmsg(ifindex, HANDLE, parent, _filter_info())
        + _attribute(_TCA_KIND, b"bpf\0")
        + _attribute(_TCA_OPTIONS, options)
    )
    try:
        _run(_RTM_NEWTFILTER, _CREATE | _REPLACE, payload)
    except OSError as exc:
        raise _failed(ifindex, f"program {name} cannot be attached with clsact", exc) from exc


def detach(ifindex: int, parent: int) -> bool:
    """Remove our filter; ``False`` if there is none, or the device is gone."""
    payload = _tcmsg(ifindex, HANDLE, parent, _filter_info()) + _attribute(_TCA_KIND, b"bpf\0")
    try:
        _run(_RTM_DELTFILTER, 0, payload)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
            return False
        raise _failed(ifindex, "filter cannot be removed", exc) from exc
    return True


def current(ifindex: int, parent: int) -> Filter | None:
    """Our filter on a device, if there is one."""
    request = _tcmsg(ifindex, 0, parent, 0)
    try:
        answers = list(_exchange(_RTM_GETTFILTER, _DUMP, request))
    except OSError as exc:
        if exc.errno in (errno.ENODEV, errno.ENOENT, errno.EINVAL):
            return None
        raise _failed(ifindex, "filters cannot be listed", exc) from exc
    for body in answers:
        _, index, handle, _, info = struct.unpack_from("=BxxxiIII", body)
        if index == ifindex and handle == HANDLE and info >> 16 == PRIORITY:
            return _decode(body[20:])
    return None


def _decode(raw: bytes) -> Filter | None:
    top = dict(_attributes(raw))
    options = dict(_attributes(top.get(_TCA_OPTIONS, b"")))
    if top.get(_TCA_KIND) != b"bpf\0" or _TCA_BPF_ID not in options:
        return None
    name = options.get(_TCA_BPF_NAME, b"").rstrip(b"\0").decode(errors="replace")
    return Filter(struct.unpack("=I", options[_TCA_BPF_ID])[0], name)


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    while len(raw) >= 4:
        size, kind = struct.unpack_from("=HH", raw)
        if size < 4:
            return
        yield kind & 0x3FFF, raw[4:size]
        raw = raw[(size + 3) & ~3 :]


def _failed(ifindex: int, what: str, exc: OSError) -> DatapathError:
    return DatapathError(f"device {ifindex}: {what}: {exc.strerror}", errno=exc.errno or 0)
