"""Fixtures for packet tests: two pods on one node, and the container programs.

A ``conftest.py`` takes them all and defines ``packet_registry`` to say which plugins take part::

    from axoneme.core.testing.packet_fixtures import *  # noqa: F403
    from axoneme.core.testing.packet_fixtures import container_registry

    @pytest.fixture(scope="session")
    def packet_registry() -> DatapathRegistry:
        registry = container_registry()
        registry.stage("from_container_frame", "mine_frame", Path("mine.bpf.c"))
        return registry
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from axoneme.bpf import registration
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packets import EGRESS, INGRESS, PacketBench

__all__ = [
    "Pod",
    "a",
    "b",
    "bench",
    "closed",
    "compile_cache",
    "container_registry",
    "devices",
    "populate",
    "shared_bench",
]

ROUTER = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}


@frozen
class Pod:
    """A pod of the tests."""

    id: int
    ifindex: int
    identity: int
    ip4: str
    ip6: str

    @property
    def mac(self) -> str:
        """MAC of the pod's end."""
        return f"02:00:00:00:01:{self.id:02x}"

    @property
    def host_mac(self) -> str:
        """MAC of the node's end."""
        return f"02:00:00:00:02:{self.id:02x}"

    def ip(self, version: int) -> str:
        """Its address of a family."""
        return self.ip4 if version == 4 else self.ip6

    def frame(self, version: int, to: Pod | str, *, source: str = "", **fields: Any) -> Packet:
        """Ethernet and IP header of what it sends; ``ttl`` and others go into the IP header."""
        target = to if isinstance(to, str) else to.ip(version)
        ethernet = Ether(src=self.mac, dst=self.host_mac)
        if version == 4:
            return ethernet / IP(src=source or self.ip4, dst=target, **fields)
        fields = {("hlim" if k == "ttl" else k): v for k, v in fields.items()}
        return ethernet / IPv6(src=source or self.ip6, dst=target, **fields)

    def tcp(
        self, version: int, to: Pod | str, flags: str = "S", *, sport: int = 1000, dport: int = 80
    ) -> Packet:
        """A TCP segment."""
        return self.frame(version, to) / TCP(flags=flags, sport=sport, dport=dport)

    def udp(self, version: int, to: Pod | str, sport: int = 1000, dport: int = 53) -> Packet:
        """A datagram."""
        return self.frame(version, to) / UDP(sport=sport, dport=dport) / Raw(b"hello")


def container_registry() -> DatapathRegistry:
    """The container programs, without any plugin."""
    registry = DatapathRegistry()
    for name in ("from_container", "to_container"):
        registry.program(name, registration.PROGRAMS / "container.bpf.c", "tc")
    return registry


def _sweep_dead() -> None:
    """Remove devices of test runs that were killed."""
    for path in Path("/sys/class/net").glob("axotp*"):
        owner = path.name.removeprefix("axotp")
        if owner.isdigit() and not Path("/proc", owner).exists():
            subprocess.run(["ip", "link", "del", path.name], check=False, capture_output=True)


@pytest.fixture(scope="session")
def devices() -> Iterator[tuple[int, int]]:
    """Interface indexes of two real devices: a test run wants them to exist."""
    _sweep_dead()
    names = (f"axotp{os.getpid()}", f"axotq{os.getpid()}")
    if not Path("/sys/class/net", names[0]).exists():
        subprocess.run(
            ["ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1]], check=True
        )
    try:
        first, second = (int(Path(f"/sys/class/net/{n}/ifindex").read_text()) for n in names)
        yield first, second
    finally:
        subprocess.run(["ip", "link", "del", names[0]], check=False, capture_output=True)


@pytest.fixture(scope="session")
def a(devices: tuple[int, int]) -> Pod:
    """The pod that usually sends."""
    return Pod(11, devices[0], 1001, "10.244.1.11", "fd00:10:244:1::11")


@pytest.fixture(scope="session")
def b(devices: tuple[int, int]) -> Pod:
    """The pod that usually receives."""
    return Pod(12, devices[1], 1002, "10.244.1.12", "fd00:10:244:1::12")


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this run keeps compiled objects."""
    return tmp_path_factory.mktemp("axot-cache")


@pytest.fixture(scope="session")
def shared_bench(compile_cache: Path, packet_registry: DatapathRegistry) -> Iterator[PacketBench]:
    """The programs of ``packet_registry``, loaded once."""
    with PacketBench(packet_registry, cache_dir=compile_cache) as loaded:
        yield loaded


def _populate(bench: PacketBench, *pods: Pod) -> PacketBench:
    bench.reset()
    for pod in pods:
        bench.endpoint(pod.id, pod.ifindex, pod.identity, pod.ip4, pod.ip6)
        if "axo_policy" in bench.maps:
            bench.subject(pod.identity)
        bench.prefix(f"{pod.ip4}/32", pod.identity)
        bench.prefix(f"{pod.ip6}/128", pod.identity)
    bench.endpoint(0, 0, 1, ROUTER[4], ROUTER[6], flags=1)
    bench.runtime("WORLD_V4", 9)
    bench.runtime("WORLD_V6", 10)
    return bench


@pytest.fixture(scope="session")
def populate() -> Callable[..., PacketBench]:
    """``populate(bench, a, b)``: empty policy maps, the router's addresses, the two worlds."""
    return _populate


@pytest.fixture
def closed(shared_bench: PacketBench, a: Pod, b: Pod) -> PacketBench:
    """Both pods are there; their policy maps are there and empty: nothing is allowed."""
    return _populate(shared_bench, a, b)


@pytest.fixture
def bench(closed: PacketBench, a: Pod, b: Pod) -> PacketBench:
    """As ``closed``, and everything is allowed."""
    if "axo_policy" in closed.maps:
        for pod in (a, b):
            closed.rule(pod.identity, EGRESS)
            closed.rule(pod.identity, INGRESS)
    return closed
