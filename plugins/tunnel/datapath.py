"""The tunnel's part of the packet path: programs, stages, attachments, the device's number."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from axoneme.bpf.registration import PROGRAMS
from axoneme.core.datapath.attachments import Attachment

if TYPE_CHECKING:
    from axoneme.core.datapath.registry import DatapathRegistry

SOURCE: Final = Path(__file__).with_name("tunnel.bpf.c")
STAGES: Final = (
    ("egress_translate", "tunnel_egress_translate", 1000),
    ("egress_forward", "tunnel_egress_forward", 0),
    ("to_overlay_encap", "tunnel_to_overlay_encap", 0),
    ("from_netdev_frame", "tunnel_from_netdev_frame", 1000),
    ("from_overlay_identity", "tunnel_from_overlay_identity", 0),
    ("sender_identity", "tunnel_sender_identity", 0),
    ("to_netdev_translate", "tunnel_to_netdev_translate", -1000),
)
"""Point, function, order: after services and raw frames' other stages, before masquerading."""
HOOKS: Final = (("tc-ingress", "from_overlay"), ("tc-egress", "to_overlay"))
"""Hook and program of the tunnel device."""
FACT: Final = "TUNNEL_IFINDEX"
"""Slot of ``axo_runtime`` that the stages read; 0 or absent: to the stack."""


def register_stages(datapath: DatapathRegistry, port: int) -> None:
    """Programs of the tunnel device, and what this plugin does in them and in others."""
    datapath.define("AXO_TUNNEL_PORT", port)
    for _, program in HOOKS:
        datapath.program(program, PROGRAMS / "overlay.bpf.c", "tc")
    for point, function, order in STAGES:
        datapath.stage(point, function, SOURCE, order=order)


def attachments(ifindex: int, device: str) -> list[Attachment]:
    """Rows for the tunnel device."""
    return [Attachment(ifindex, device, hook, program) for hook, program in HOOKS]
