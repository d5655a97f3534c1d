"""Masquerading's part of the packet path: stages, constants, rows to entries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from axoneme.plugins.masquerade.compute import MasqueradeAddress, constants
from axoneme.plugins.masquerade.config import MasqueradeSettings
from axoneme.plugins.masquerade.rows import DeviceAddresses, DeviceKey

if TYPE_CHECKING:
    from axoneme.core.datapath.registry import DatapathRegistry

SOURCE: Final = Path(__file__).with_name("masquerade.bpf.c")
NAT_MAPS: Final = {4: "axo_nat4", 6: "axo_nat6"}
DEVICE_MAP: Final = "axo_masq_dev"


def register_stages(datapath: DatapathRegistry) -> None:
    """Translate what leaves and enters by native devices; say early what never will be."""
    datapath.stage("egress_forward", "masquerade_egress_forward", SOURCE, order=-100)
    datapath.stage("to_netdev_translate", "masquerade_to_netdev_translate", SOURCE)
    datapath.stage("from_netdev_translate", "masquerade_from_netdev_translate", SOURCE)


def register_constants(datapath: DatapathRegistry, settings: MasqueradeSettings) -> None:
    """Constants and map sizes."""
    for name, value in constants(settings).items():
        datapath.define(name, value)
    for name in NAT_MAPS.values():
        datapath.map_size(name, settings.entries)


def encode_address(row: MasqueradeAddress) -> tuple[DeviceKey, DeviceAddresses]:
    """Entry of ``axo_masq_dev``."""
    return DeviceKey(row.ifindex), DeviceAddresses(row.ipv4, row.ipv6, int(row.keeps))
