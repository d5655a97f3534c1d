"""The socket programs: constants, sizes, where they are attached."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from axoneme.core.datapath.attachments import Attachment

if TYPE_CHECKING:
    from axoneme.core.config import Config
    from axoneme.core.datapath.registry import DatapathRegistry

SOURCE: Final = Path(__file__).with_name("socket.bpf.c")
PROGRAMS: Final = {
    f"sock{version}_{verb}": kind.format(version)
    for version in (4, 6)
    for verb, kind in (
        ("connect", "inet{}_connect"),
        ("sendmsg", "udp{}_sendmsg"),
        ("recvmsg", "udp{}_recvmsg"),
        ("getpeername", "inet{}_getpeername"),
        ("bind", "inet{}_bind"),
    )
}
"""Program → kind."""
SOCKETS: Final = "axo_lb_sockets"
HOST: Final = "axo_lb_hostns"


def register(datapath: DatapathRegistry, config: Config) -> None:
    """All of it."""
    for name, kind in PROGRAMS.items():
        datapath.program(name, SOURCE, f"cgroup_{kind}")
    datapath.define("AXO_SOCKET_HOST_ONLY", bool(config["bpf-lb-sock-hostns-only"]))
    datapath.define("AXO_SOCKET_BIND_PROTECTION", bool(config["node-port-bind-protection"]))
    size = int(config["bpf-sock-rev-map-max"]) or int(config["bpf-lb-map-max"])
    datapath.map_size(SOCKETS, size)


def attachments(root: Path) -> list[Attachment]:
    """On the cgroup of all sockets."""
    return [
        Attachment(0, "", f"cgroup:{kind}", name, path=str(root)) for name, kind in PROGRAMS.items()
    ]
