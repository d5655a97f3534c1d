"""Native routing's part of the packet path: one stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from axoneme.core.datapath.registry import DatapathRegistry

SOURCE: Final = Path(__file__).with_name("native_routing.bpf.c")


def register_stages(datapath: DatapathRegistry) -> None:
    """Forward what leaves the node, after every tunnel had its say."""
    datapath.stage("egress_forward", "native_routing_egress_forward", SOURCE, order=100)
