"""Two pods on one node, and the container programs with every core plugin."""

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

ROOT = Path(__file__).parents[2]

STAGES = {
    "responder": [("from_container_frame", "responder_frame", "responder/responder.bpf.c")],
    "source_check": [
        ("from_container_sender", "source_check_sender", "source_check/source_check.bpf.c")
    ],
    "policy": [
        ("egress_policy", "policy_egress", "policy/policy.bpf.c"),
        ("ingress_policy", "policy_ingress", "policy/policy.bpf.c"),
    ],
}


def make_registry(*plugins: str) -> DatapathRegistry:
    """The container programs with the stages of some of our plugins."""
    registry = DatapathRegistry()
    for name in ("from_container", "to_container"):
        registry.program(name, registration.PROGRAMS / "container.bpf.c", "tc")
    for plugin in plugins:
        for point, function, source in STAGES[plugin]:
            registry.stage(point, function, ROOT / "plugins" / source)
    return registry


ROUTER = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
WORLD = {4: "198.51.100.1", 6: "2001:db8:51::1"}


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

    def tcp(self, version: int, to: Pod | str, flags: str = "S", **ports: int) -> Packet:
        """A TCP segment to port 80 from port 1000 unless told otherwise."""
        return self.frame(version, to) / TCP(flags=flags, **{"sport": 1000, "dport": 80, **ports})

    def udp(self, version: int, to: Pod | str, sport: int = 1000, dport: int = 53) -> Packet:
        """A datagram."""
        return self.frame(version, to) / UDP(sport=sport, dport=dport) / Raw(b"hello")


@pytest.fixture(scope="session")
def devices() -> Iterator[tuple[int, int]]:
    """Interface indexes of two real devices: a test run wants them to exist."""
    names = (f"axotp{os.getpid()}", f"axotq{os.getpid()}")
    subprocess.run(
        ["ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1]], check=True
    )
    try:
        first, second = (int(Path(f"/sys/class/net/{n}/ifindex").read_text()) for n in names)
        yield first, second
    finally:
        subprocess.run(["ip", "link", "del", names[0]], check=False)


@pytest.fixture(scope="session")
def a(devices: tuple[int, int]) -> Pod:
    """The pod that usually sends."""
    return Pod(11, devices[0], 1001, "10.244.1.11", "fd00:10:244:1::11")


@pytest.fixture(scope="session")
def b(devices: tuple[int, int]) -> Pod:
    """The pod that usually receives."""
    return Pod(12, devices[1], 1002, "10.244.1.12", "fd00:10:244:1::12")


@pytest.fixture(scope="session")
def registry_of() -> Callable[..., DatapathRegistry]:
    """``registry_of("policy", …)``: the container programs with these plugins."""
    return make_registry


@pytest.fixture(scope="session", name="populate")
def populate_() -> Callable[..., PacketBench]:
    """``populate(bench, a, b)``: see there."""
    return populate


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this run keeps compiled objects."""
    return tmp_path_factory.mktemp("axot-cache")


@pytest.fixture(scope="session")
def shared_bench(compile_cache: Path) -> Iterator[PacketBench]:
    """Loaded once: the container programs with policy, source check and responder."""
    bench = PacketBench(
        make_registry("responder", "source_check", "policy"), cache_dir=compile_cache
    )
    yield bench
    bench.close()


def populate(bench: PacketBench, *pods: Pod) -> PacketBench:
    """Two pods with empty policy maps, the router's addresses, the two worlds."""
    bench.reset()
    for pod in pods:
        bench.endpoint(pod.id, pod.ifindex, pod.identity, pod.ip4, pod.ip6)
        if "axo_policy" in bench.maps:
            bench.subject(pod.identity)
        bench.prefix(f"{pod.ip4}/32", pod.identity)
        bench.prefix(f"{pod.ip6}/128", pod.identity)
    bench.endpoint(1, 0, 1, ROUTER[4], ROUTER[6], flags=1)
    bench.runtime("WORLD_V4", 9)
    bench.runtime("WORLD_V6", 10)
    return bench


@pytest.fixture
def closed(shared_bench: PacketBench, a: Pod, b: Pod) -> PacketBench:
    """Both pods are there; their policy maps are there and empty: nothing is allowed."""
    return populate(shared_bench, a, b)


@pytest.fixture
def bench(closed: PacketBench, a: Pod, b: Pod) -> PacketBench:
    """As ``closed``, and everything is allowed."""
    for pod in (a, b):
        closed.rule(pod.identity, EGRESS)
        closed.rule(pod.identity, INGRESS)
    return closed
