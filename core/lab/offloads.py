"""What a veth leaves to the hardware that it has not got.

XDP sees frames as they are on the wire, with complete checksums, and sends some back. A physical
device gives and takes that; a veth does when its peer completes sums itself (ethtool's ioctl,
linux/ethtool.h) and has a program of XDP too, which makes it receive frames that are no packets.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from axoneme.core.datapath import kinds, syscalls
from axoneme.core.lab import netns
from axoneme.core.netlink import xdp

_SIOCETHTOOL: Final = 0x8946
_SET_TX_CSUM: Final = 0x17
_XDP_PASS: Final = bytes.fromhex("b7000000020000009500000000000000")
"""``r0 = XDP_PASS; exit``"""


def like_hardware(namespace: Path, devices: Iterable[str]) -> None:
    """What goes through these devices is complete, and they take frames."""

    def work() -> None:
        program, log = syscalls.prog_load(
            kinds.KINDS["xdp"].prog_type,
            _XDP_PASS,
            name="axo_lab_wire",
            expected_attach_type=kinds.XDP,
            flags=kinds.HAS_FRAGS,
        )
        if program < 0:
            raise OSError(-program, log or os.strerror(-program))
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for name in devices:
                    _complete_sums(sock, name)
                    xdp.attach(socket.if_nametoindex(name), program)
        finally:
            os.close(program)

    netns.run_in(namespace, work)


def _complete_sums(sock: socket.socket, name: str) -> None:
    """``struct ethtool_value`` behind ``struct ifreq``."""
    words = array.array("I", [_SET_TX_CSUM, 0])
    request = struct.pack("16sP16x", name.encode(), words.buffer_info()[0])
    fcntl.ioctl(sock, _SIOCETHTOOL, request)
