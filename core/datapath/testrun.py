"""Run a loaded program on a packet in memory (``BPF_PROG_TEST_RUN``): no device needed."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

from attrs import frozen

from axoneme.core.datapath import syscalls as sc
from axoneme.core.errors import DatapathError

_HEADROOM: Final = 1024
"""Room for headers that the program may push."""
_SKB_SIZE: Final = 192
_SKB_OFFSETS: Final = {
    "len": 0, "pkt_type": 4, "mark": 8, "queue_mapping": 12, "protocol": 16, "priority": 32,
    "ingress_ifindex": 36, "ifindex": 40, "tc_index": 44, "hash": 68, "tc_classid": 72,
    "wire_len": 160, "gso_segs": 164, "gso_size": 176,
}  # fmt: skip
_SKB_CB: Final = 48
_SETTABLE: Final = {"mark", "priority", "ingress_ifindex", "ifindex", "wire_len", "gso_segs",
                    "gso_size"}  # fmt: skip


@frozen
class Skb:
    """``struct __sk_buff`` after the run; ``cb`` are its five words."""

    mark: int
    priority: int
    ifindex: int
    ingress_ifindex: int
    cb: tuple[int, ...]


@frozen
class TestResult:
    """``duration_ns`` is the mean of one run; ``ctx`` is ``None`` for programs without skb."""

    __test__ = False

    retval: int
    data_out: bytes
    duration_ns: int
    ctx: Skb | None = None

    @property
    def verdict(self) -> int:
        """The return value as a signed number (``TC_ACT_UNSPEC`` is -1)."""
        return self.retval - (1 << 32) if self.retval >= 1 << 31 else self.retval


def run(
    prog_fd: int,
    packet: bytes,
    *,
    repeat: int = 1,
    cb: tuple[int, ...] = (),
    skb: bool = True,
    **fields: int,
) -> TestResult:
    """Run a tc (or, with ``skb=False``, XDP) program on ``packet``, from its Ethernet header.

    ``fields`` set members of ``__sk_buff``: mark, priority, ifindex, ingress_ifindex, wire_len,
    gso_segs, gso_size; the kernel refuses other members. ``ifindex`` names a device of the
    network namespace of the caller, on which the packet then seems to be; a frame of XDP has no
    other field.
    """
    if not skb:
        return _call(prog_fd, packet, repeat, _frame(packet, **fields))
    if unknown := set(fields) - _SETTABLE:
        raise DatapathError(
            f"__sk_buff fields {', '.join(sorted(unknown))} cannot be set in a test run"
        )
    context = bytearray(_SKB_SIZE)
    for name, value in fields.items():
        struct.pack_into("=I", context, _SKB_OFFSETS[name], value)
    for number, word in enumerate(cb):
        struct.pack_into("=I", context, _SKB_CB + 4 * number, word)
    return _call(prog_fd, packet, repeat, bytes(context))


def _frame(packet: bytes, ifindex: int = 0) -> bytes:
    """``struct xdp_md`` of a frame that came by a device; its driver must have XDP on."""
    return struct.pack("=IIIIII", 0, len(packet), 0, ifindex, 0, 0) if ifindex else b""


def _call(prog_fd: int, packet: bytes, repeat: int, context: bytes) -> TestResult:
    """``struct`` of the command ``BPF_PROG_TEST_RUN``."""
    data_in = ctypes.create_string_buffer(packet, len(packet))
    data_out = ctypes.create_string_buffer(len(packet) + _HEADROOM)
    size = len(context)
    ctx_in = ctypes.create_string_buffer(context, max(size, 1))
    ctx_out = ctypes.create_string_buffer(max(size, 1))
    contexts = (ctypes.addressof(ctx_in), ctypes.addressof(ctx_out)) if size else (0, 0)
    data = ctypes.addressof(data_in), ctypes.addressof(data_out)
    head = prog_fd, 0, len(packet), len(data_out), *data
    attr = sc.attributes("=IIIIQQIIIIQQIII4x", *head, repeat, 0, size, size, *contexts, 0, 0, 0)
    try:
        sc.bpf(sc.PROG_TEST_RUN, attr)
    except OSError as exc:
        raise DatapathError(
            f"test run failed: {os.strerror(exc.errno or 0)}", errno=exc.errno or 0
        ) from exc
    retval, _, out_size = struct.unpack_from("=III", attr.raw, 4)
    (duration,) = struct.unpack_from("=I", attr.raw, 36)
    skb = _skb(ctx_out.raw) if size == _SKB_SIZE else None
    return TestResult(retval, data_out.raw[:out_size], duration, skb)


def _skb(raw: bytes) -> Skb:
    def word(name: str) -> int:
        return int(struct.unpack_from("=I", raw, _SKB_OFFSETS[name])[0])

    return Skb(
        word("mark"),
        word("priority"),
        word("ifindex"),
        word("ingress_ifindex"),
        struct.unpack_from("=5I", raw, _SKB_CB),
    )
