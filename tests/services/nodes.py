"""Whole nodes on a bench: all programs of a node with the maps that they share, no device used.

What a program hands on is the next one's input; what the kernel does between them (routes,
neighbours, the tunnel's outer headers) changes no byte that these programs look at.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from axoneme.bpf.registration import PROGRAMS
from axoneme.core.datapath import compose
from axoneme.core.datapath.build import Source, compile_source
from axoneme.core.datapath.loader import create_maps, load_function
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.lab import netns
from axoneme.core.testing.packets import PacketBench
from axoneme.plugins.masquerade.datapath import register_stages as register_masquerade
from axoneme.plugins.masquerade.rows import DeviceAddresses, DeviceKey
from axoneme.plugins.nodeport.datapath import register as register_nodeport
from axoneme.plugins.nodeport.datapath import register_xdp
from axoneme.plugins.services import datapath as services
from tests.services.kit import SIZES, Balancer, options_of

UNITS: Final = {
    "container": ("from_container", "to_container"),
    "netdev": ("from_netdev", "to_netdev"),
    "overlay": ("from_overlay", "to_overlay"),
    "xdp": ("from_netdev_xdp",),
}
WORLD: Final = Path(__file__).with_name("outsider.bpf.c")
SPACE: Final = f"axot-life{os.getpid()}"
BETWEEN: Final = ("172.18.0.1/24", "fd00:18::1/64")


def registry(constants: Mapping[str, int | str] | None = None) -> DatapathRegistry:
    """A node with services, source NAT, and a tunnel whose packets are outsiders'."""
    made = DatapathRegistry()
    for unit, programs in UNITS.items():
        for name in programs if unit != "xdp" else ():
            made.program(name, PROGRAMS / f"{unit}.bpf.c", "tc")
    services.register(made, options_of())
    register_masquerade(made)
    register_nodeport(made, constants)
    register_xdp(made)
    made.stage("from_overlay_identity", "outsider_from_overlay_identity", WORLD)
    made.map_sizes.clear()
    return made


class Node(PacketBench):
    """One node. Every unit has scratch maps of its own, as in an agent."""

    def __init__(self, made: DatapathRegistry, number: int, cache: Path | None = None) -> None:
        super().__init__(made, unit="container", sizes=SIZES, cache_dir=cache)
        self.number = number
        self._more: list[Any] = []
        for unit in ("netdev", "overlay", "xdp"):
            self._add(made, unit, cache)
        self.balancer = Balancer(self, made.alternatives["lb_select"])

    def _add(self, made: DatapathRegistry, unit: str, cache: Path | None) -> None:
        chosen = next(u for u in compose.units(made) if u.name == unit)
        text = compose.compose(made, chosen).text
        compiled = compile_source(Source(unit, text, (), ("axo_event",)), cache)
        shared = {n: m for n, m in self.maps.items() if not n.startswith("axoscratch_")}
        wanted = {
            n: d.resized(SIZES.get(n, 4096)) if n.startswith("axo_") and n in SIZES else d
            for n, d in compiled.maps.items()
            if n not in shared
        }
        maps = create_maps(wanted, shared)
        own = {n: maps[n] for n in wanted}
        for function in compiled.functions.values():
            program = load_function(function, maps, chosen.kind)
            if function.name in UNITS[unit]:
                self.loaded.programs[function.name] = program
            else:
                self._more.append(program)
            for call in made.tail_calls:
                if call.function == function.name and call.array in own:
                    slot, target = struct.pack("=I", call.index), struct.pack("=I", program.fd)
                    own[call.array].update(slot, target)
        self._more += [m for n, m in own.items() if n.startswith("axoscratch_")]
        self.maps.update({n: m for n, m in own.items() if not n.startswith("axoscratch_")})

    def close(self) -> None:
        """Everything."""
        for each in self._more:
            each.close()
        super().close()

    def address(self, version: int) -> str:
        """Of the node on the underlay."""
        return f"172.18.0.{self.number + 1}" if version == 4 else f"fd00:18::{self.number + 1}"

    def router(self, version: int) -> str:
        """Of the node in its pods' network."""
        number = self.number
        return f"10.244.{number}.1" if version == 4 else f"fd00:10:244:{number}::1"

    def pod(self, version: int, last: int) -> str:
        """Of a pod here."""
        number = self.number
        return f"10.244.{number}.{last}" if version == 4 else f"fd00:10:244:{number}::{last:x}"

    def fill(self, others: list[Node], device: int, *, tunnel: bool) -> None:
        """Pods 5 and 6, the node's own addresses, the other nodes; nothing of before."""
        self.reset()
        self.balancer.target.resync({})
        for last in (5, 6):
            self.endpoint(last, device, 1000 + last, self.pod(4, last), self.pod(6, last))
        self.endpoint(0, 0, 1, self.address(4), self.address(6), flags=1)
        self.endpoint(0, 0, 1, self.router(4), self.router(6), flags=1)
        for node in others:
            for version, bits in ((4, 32), (6, 128)):
                home = node.address(4)
                self.prefix(f"{node.address(version)}/{bits}", 6, node.address(version), flags=1)
                self.prefix(f"{node.router(version)}/{bits}", 6, home)
                for last in (5, 6):
                    behind = home if tunnel else ""
                    self.prefix(f"{node.pod(version, last)}/{bits}", 1000 + last, behind)
        for name, of in (("NODE", self.address), ("ROUTER", self.router)):
            raw = ip_address(of(6)).packed
            self.runtime(f"{name}_V4", ip_address(of(4)).packed)
            self.runtime(f"{name}_V6_HI", raw[:8])
            self.runtime(f"{name}_V6_LO", raw[8:])
        self.runtime("TUNNEL_IFINDEX", device if tunnel else 0)
        own: TypedMap[DeviceKey, DeviceAddresses] = TypedMap(
            self.maps["axo_masq_dev"], DeviceKey, DeviceAddresses
        )
        own[DeviceKey(device)] = DeviceAddresses(
            ip_address(self.address(4)), ip_address(self.address(6))
        )


@contextmanager
def space() -> Iterator[int]:
    """A network namespace with routes to everywhere by one device, whose index is given."""
    back = os.open("/proc/self/ns/net", os.O_RDONLY)
    netns.create([SPACE])
    try:
        netns.enter(netns.NETNS_DIR / SPACE)
        for line in (
            "link add name d0 type veth peer name d1",
            *(
                f"addr add {a} dev d0 nodad" if ":" in a else f"addr add {a} dev d0"
                for a in BETWEEN
            ),
            "link set d0 up",
            "link set d1 up",
            "route add default via 172.18.0.254",
            "-6 route add default via fd00:18::fe",
            "neigh add 172.18.0.254 lladdr 02:00:00:00:00:fe dev d0",
            "-6 neigh add fd00:18::fe lladdr 02:00:00:00:00:fe dev d0",
            *(f"route add 10.244.{n}.0/24 via 172.18.0.{n + 1}" for n in (1, 2)),
            *(f"-6 route add fd00:10:244:{n}::/64 via fd00:18::{n + 1}" for n in (1, 2)),
            *(f"neigh add 172.18.0.{n + 1} lladdr 02:00:00:00:00:0{n} dev d0" for n in (1, 2)),
            *(f"-6 neigh add fd00:18::{n + 1} lladdr 02:00:00:00:00:0{n} dev d0" for n in (1, 2)),
        ):
            subprocess.run(["ip", *line.split()], check=True, capture_output=True)
        for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            Path("/proc/sys", key).write_text("1")
        yield socket.if_nametoindex("d0")
    finally:
        ctypes.CDLL(None).setns(back, netns.CLONE_NEWNET)
        os.close(back)
        netns.delete([SPACE])
