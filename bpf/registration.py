"""What the core itself contributes to the packet path: its programs, constants and map sizes.

Everything here depends on the configuration alone, so that all nodes share one compiled object.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from axoneme.core.config import Config
    from axoneme.core.datapath.registry import DatapathRegistry

PROGRAMS: Final = Path(__file__).parent / "programs"

_TCP_FLAGS: Final = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64,
                     "cwr": 128, "all": 255}  # fmt: skip
_AGGREGATION: Final = {"none": 0, "lowest": 1, "low": 2, "medium": 3, "max": 4, "maximum": 4}

_SECONDS: Final = {
    "AXO_CT_TIMEOUT_TCP": "bpf-ct-timeout-regular-tcp",
    "AXO_CT_TIMEOUT_SYN": "bpf-ct-timeout-regular-tcp-syn",
    "AXO_CT_TIMEOUT_FIN": "bpf-ct-timeout-regular-tcp-fin",
    "AXO_CT_TIMEOUT_ANY": "bpf-ct-timeout-regular-any",
    "AXO_CT_REPORT_INTERVAL": "monitor-aggregation-interval",
}
_SWITCHES: Final = {
    "AXO_FRAG4_TRACKING": "enable-ipv4-fragment-tracking",
    "AXO_FRAG6_TRACKING": "enable-ipv6-fragment-tracking",
    "AXO_EXTENDED_PROTOCOLS": "enable-extended-ip-protocols",
    "AXO_EVENTS_DROP": "bpf-events-drop-enabled",
    "AXO_EVENTS_VERDICT": "bpf-events-policy-verdict-enabled",
    "AXO_EVENTS_TRACE": "bpf-events-trace-enabled",
}
_SIZES: Final = {
    "axo_ct4": "bpf-ct-global-tcp-max",
    "axo_ct6": "bpf-ct-global-tcp-max",
    "axo_ct_any4": "bpf-ct-global-any-max",
    "axo_ct_any6": "bpf-ct-global-any-max",
    "axo_frag4": "bpf-fragments-map-max",
    "axo_frag6": "bpf-fragments-map-max",
}


def register(registry: DatapathRegistry, config: Config) -> None:
    """Add the programs of pods and devices, and the constants and sizes of the core's headers."""
    for name in ("from_container", "to_container"):
        registry.program(name, PROGRAMS / "container.bpf.c", "tc")
    for name in ("from_netdev", "to_netdev"):
        registry.program(name, PROGRAMS / "netdev.bpf.c", "tc")
    for name in ("axo_event", "axo_ctx"):
        registry.struct(name)
    for name, key in _SECONDS.items():
        registry.define(name, max(1, round(config[key])))
    for name, key in _SWITCHES.items():
        registry.define(name, bool(config[key]))
    registry.define("AXO_AGGREGATION", _AGGREGATION[str(config["monitor-aggregation"]).lower()])
    registry.define("AXO_CT_REPORT_FLAGS", tcp_flags(config["monitor-aggregation-flags"]))
    for name, key in _SIZES.items():
        registry.map_size(name, int(config[key]))


def tcp_flags(names: tuple[str, ...] | list[str]) -> int:
    """Byte of TCP flags from their names."""
    byte = 0
    for name in names:
        byte |= _TCP_FLAGS[name.lower()]
    return byte
