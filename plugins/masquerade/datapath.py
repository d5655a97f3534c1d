"""Masquerading's part of the packet path: stages, constants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from axoneme.core.datapath.registry import DatapathRegistry

SOURCE = Path(__file__).parent / "masquerade.bpf.c"


def register_stages(datapath: DatapathRegistry) -> None:
    """Translate what leaves and enters by native devices."""
    datapath.stage("to_netdev_translate", "masquerade_to_netdev_translate", SOURCE)
    datapath.stage("from_netdev_translate", "masquerade_from_netdev_translate", SOURCE)
