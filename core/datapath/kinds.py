"""Kinds of program: what the kernel calls them, and what their C functions take."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from axoneme.core.errors import DatapathError

TCX_INGRESS: Final = 46
TCX_EGRESS: Final = 47
XDP: Final = 37


@frozen
class Kind:
    """``context`` is the C type of the program's first argument, ``argument`` its usual name."""

    name: str
    prog_type: int
    attach_type: int
    context: str
    argument: str
    defines: tuple[str, ...] = ()
    """Of its units, before all else: what the headers must know."""
    load_flags: int = 0
    """Of the command ``BPF_PROG_LOAD``."""


def _socket(name: str, attach_type: int) -> Kind:
    return Kind(f"cgroup_{name}", 18, attach_type, "struct bpf_sock_addr", "sa")


HAS_FRAGS: Final = 1 << 5
"""``BPF_F_XDP_HAS_FRAGS``: on devices with large frames, whose ends are in further buffers."""
_XDP: Final = Kind(
    "xdp", 6, XDP, "struct xdp_md", "xdp", ("AXO_XDP 1", "__sk_buff xdp_md"), HAS_FRAGS
)

KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("tc", 3, 0, "struct __sk_buff", "skb"),
        _XDP,
        _socket("inet4_bind", 8),
        _socket("inet6_bind", 9),
        _socket("inet4_connect", 10),
        _socket("inet6_connect", 11),
        _socket("udp4_sendmsg", 14),
        _socket("udp6_sendmsg", 15),
        _socket("udp4_recvmsg", 19),
        _socket("udp6_recvmsg", 20),
        _socket("inet4_getpeername", 29),
        _socket("inet6_getpeername", 30),
        Kind("cgroup_skb_ingress", 8, 0, "struct __sk_buff", "skb"),
        Kind("cgroup_skb_egress", 8, 1, "struct __sk_buff", "skb"),
        Kind("cgroup_sock_create", 9, 2, "struct bpf_sock", "sk"),
        Kind("cgroup_sock_release", 9, 34, "struct bpf_sock", "sk"),
        Kind("sk_lookup", 30, 36, "struct bpf_sk_lookup", "lookup"),
        Kind("sock_ops", 13, 3, "struct bpf_sock_ops", "ops"),
    )
}
"""``enum bpf_prog_type`` and ``enum bpf_attach_type`` by our name of the kind."""


def kind(name: str) -> Kind:
    """The kind of that name."""
    try:
        return KINDS[name]
    except KeyError:
        known = ", ".join(sorted(KINDS))
        raise DatapathError(f"unknown kind of program {name!r}", hint=f"one of {known}") from None
