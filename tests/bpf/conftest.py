"""Packet tests of the core: the container programs with the plugins that belong to every node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packet_fixtures import *  # noqa: F403 - pytest finds fixtures by name
from axoneme.core.testing.packet_fixtures import container_registry

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
    registry = container_registry()
    for plugin in plugins:
        for point, function, source in STAGES[plugin]:
            registry.stage(point, function, ROOT / "plugins" / source)
    return registry


@pytest.fixture(scope="session")
def registry_of() -> Callable[..., DatapathRegistry]:
    """``registry_of("policy", …)``: the container programs with these plugins."""
    return make_registry


@pytest.fixture(scope="session")
def packet_registry() -> DatapathRegistry:
    """Responder, source check and policy."""
    return make_registry(*STAGES)
