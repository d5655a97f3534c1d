"""The cookie by which the kernel knows a network namespace."""

from __future__ import annotations

import socket
import struct
from typing import Final

SO_NETNS_COOKIE: Final = 71
"""``getsockopt`` since Linux 5.14 (include/uapi/asm-generic/socket.h)."""


def cookie() -> int:
    """That of this process' namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        raw = any_socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    return int(struct.unpack("=Q", raw)[0])
