"""Services on a bench: rows are programmed by the plugin's own target into the programs' maps."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from attrs import evolve
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from axoneme.bpf.registration import PROGRAMS
from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.model.balancing import (
    NO_FLAG,
    Backend,
    Flag,
    Frontend,
    FrontendKey,
    Kind,
    PortKey,
    ServicePort,
    State,
)
from axoneme.core.testing.packets import PacketBench
from axoneme.plugins.services import config, datapath, kernel
from axoneme.plugins.services.target import BalancingTarget, Tables

ROOT: Final = Path(__file__).parents[2]
FAMILIES: Final = (4, 6)
SIZES: Final = {
    "axo_lb_flows": 4096,
    "axo_lb_affinity": 1024,
    "axo_lb_dsr": 1024,
    "axo_nat4": 4096,
    "axo_nat6": 4096,
    "axo_lb_maglev": 64,
}


def options_of(**settings: str) -> Config:
    """A configuration with the core's options and the plugin's."""
    options = OptionRegistry()
    core_options.register(options)
    config.register(options)
    return Config.load(options, {k.replace("_", "-"): v for k, v in settings.items()})


def container_with_services(**settings: str) -> DatapathRegistry:
    """The pods' programs with services."""
    registry = DatapathRegistry()
    for name in ("from_container", "to_container"):
        registry.program(name, PROGRAMS / "container.bpf.c", "tc")
    datapath.register(registry, options_of(**settings))
    registry.map_sizes.clear()
    return registry


class Balancer:
    """The load-balancing maps of a bench, or of several that share rows."""

    def __init__(self, bench: PacketBench, algorithms: dict[str, int]) -> None:
        self.bench = bench

        def typed(name: str) -> TypedMap[Any, Any]:
            return TypedMap(bench.maps[name], *kernel.MODELS[name])

        size = bench.maps["axoscratch_maglev"].info.value_size // 4
        tables = Tables(bench.maps["axo_lb_maglev"], size, b"0" * 12)
        self.target = BalancingTarget(bench.maps, kernel.Encoder(typed, algorithms), tables)
        self.target.resync({})

    def put(self, *rows: ServicePort) -> None:
        """Program rows."""
        assert not self.target.apply({r.key: r for r in rows}, {})

    def remove(self, *rows: ServicePort) -> None:
        """And take them away."""
        assert not self.target.apply({}, {r.key: r for r in rows})


def backend(number: int, address: str, port: int, proto: int = 6, **more: Any) -> Backend:
    """Somebody behind a service."""
    return Backend(ip_address(address), port, proto, id=number, **more)


def service(
    number: int,
    frontends: Iterable[tuple[str | None, int, Kind]],
    backends: Iterable[Backend],
    *,
    proto: int = 6,
    version: int = 4,
    flags: Flag = NO_FLAG,
    local_out: bool = False,
    local_in: bool = False,
    ranges: Iterable[str] = (),
    **more: Any,
) -> ServicePort:
    """A row. Frontends get the ids ``10 * number`` and on."""
    every = tuple(backends)
    made = []
    for index, (address, port, kind) in enumerate(frontends):
        where = ip_address(address) if address else None
        key = FrontendKey(where, port, proto, where.version if where else version)
        made.append(Frontend(key, kind, flags, local_out, local_in, id=10 * number + index))
    active = tuple(b for b in every if b.state is State.ACTIVE)
    return ServicePort(
        key=PortKey("default", f"s{number}", str(proto), proto, version),
        frontends=tuple(made),
        backends=every,
        chosen=active,
        chosen_local=tuple(b for b in active if b.local),
        ranges=tuple(ip_network(r) for r in ranges),
        number=number,
        **more,
    )


def network(packet: Packet) -> Any:
    """The IP header of a frame."""
    return packet[IP] if IP in packet else packet[IPv6]


def ends(packet: Packet) -> tuple[str, int, str, int]:
    """Source, port, destination, port."""
    header = network(packet)
    l4 = packet[TCP] if TCP in packet else packet[UDP]
    return header.src, l4.sport, header.dst, l4.dport


def sums_are_right(raw: bytes) -> Packet:
    """The frame, if all its checksums are what they must be; fails else."""
    packet = Ether(raw)
    fresh = Ether(raw)
    layer: Any = fresh
    while layer:
        for name in ("chksum", "cksum"):
            if name in layer.fields:
                delattr(layer, name)
        layer = layer.payload
    again = Ether(bytes(fresh))
    for kind in (IP, TCP, UDP):
        if kind in packet:
            assert packet[kind].chksum == again[kind].chksum, kind.__name__
    return packet


__all__ = ["Kind", "evolve"]
