"""The container programs with the policy stages, loaded once, and a pod's device."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packets import PacketBench
from axoneme.plugins.policy import plugin


@pytest.fixture(scope="session")
def device() -> Iterator[int]:
    """Index of a real interface: a test run wants one."""
    name = f"axotd{os.getpid()}"
    peer = f"axote{os.getpid()}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", peer], check=True)
    try:
        yield int(Path(f"/sys/class/net/{name}/ifindex").read_text())
    finally:
        subprocess.run(["ip", "link", "del", name], check=False)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PacketBench]:
    """Real programs and real maps, private to this run."""
    import axoneme.bpf

    assert axoneme.bpf.__file__ is not None
    skeleton = Path(axoneme.bpf.__file__).parent / "programs" / "container.bpf.c"
    registry = DatapathRegistry()
    for name in ("from_container", "to_container"):
        registry.program(name, skeleton, "tc")
    options = OptionRegistry()
    core_options.register(options)
    plugin.axoneme_register_options(options)
    plugin.axoneme_register_datapath(datapath=registry, config=Config.load(options, {}))
    made = PacketBench(registry, cache_dir=tmp_path_factory.mktemp("axot-policy"))
    yield made
    made.close()
