"""Stages of the devices' programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from axoneme.bpf.registration import PROGRAMS

if TYPE_CHECKING:
    from axoneme.core.datapath.registry import DatapathRegistry

SOURCE: Final = Path(__file__).with_name("nodeport.bpf.c")
XDP_SOURCE: Final = Path(__file__).with_name("xdp.bpf.c")
XDP_PROGRAM: Final = "from_netdev_xdp"
TAIL_CALLS: Final = ("nodeport_serve", "nodeport_away", "nodeport_back", "nodeport_error")
BEHIND_NAT: Final = 100
"""Source NAT finds out first whose answer a packet is."""
STAGES: Final = (
    ("from_netdev_translate", BEHIND_NAT),
    ("from_netdev_unserved", 0),
    ("from_overlay_translate", 0),
    ("receive_options", 0),
)


def register(datapath: DatapathRegistry, constants: Mapping[str, int | str] | None = None) -> None:
    """Translate what comes by native devices and the tunnel."""
    datapath.define("AXO_NAT_SERVICES", 1)
    for name, value in (constants or {}).items():
        datapath.define(name, value)
    for index, function in enumerate(TAIL_CALLS):
        datapath.tail_call("axoscratch_nodeport", index, function)
    for point, order in STAGES:
        datapath.stage(point, f"nodeport_{point}", SOURCE, order=order)


def register_xdp(datapath: DatapathRegistry) -> None:
    """The same where frames come from the wire."""
    datapath.program(XDP_PROGRAM, PROGRAMS / "xdp.bpf.c", "xdp")
    datapath.stage("xdp_ingress", "nodeport_xdp_ingress", XDP_SOURCE)
