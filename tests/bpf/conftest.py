"""Two pods on one node, and the container programs with every core plugin."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from axoneme.bpf import registration
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packets import EGRESS, INGRESS, PacketBench
from attrs import frozen

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


@pytest.fixture
def closed(shared_bench: PacketBench, a: Pod, b: Pod) -> PacketBench:
    """Both pods are there; their policy maps are there and empty: nothing is allowed."""
    shared_bench.reset()
    for pod in (a, b):
        shared_bench.endpoint(pod.id, pod.ifindex, pod.identity, pod.ip4, pod.ip6)
        shared_bench.subject(pod.identity)
        shared_bench.prefix(f"{pod.ip4}/32", pod.identity)
        shared_bench.prefix(f"{pod.ip6}/128", pod.identity)
    shared_bench.endpoint(1, 0, 1, "10.244.1.1", "fd00:10:244:1::1", flags=1)
    shared_bench.runtime("WORLD_V4", 9)
    shared_bench.runtime("WORLD_V6", 10)
    return shared_bench


@pytest.fixture
def bench(closed: PacketBench, a: Pod, b: Pod) -> PacketBench:
    """As ``closed``, and everything is allowed."""
    for pod in (a, b):
        closed.rule(pod.identity, EGRESS)
        closed.rule(pod.identity, INGRESS)
    return closed
