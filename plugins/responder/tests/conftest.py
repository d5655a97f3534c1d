"""The container programs with this plugin alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packet_fixtures import *  # noqa: F403 - pytest finds fixtures by name
from axoneme.core.testing.packet_fixtures import container_registry


@pytest.fixture(scope="session")
def packet_registry() -> DatapathRegistry:
    """One stage."""
    registry = container_registry()
    source = Path(__file__).parents[1] / "responder.bpf.c"
    registry.stage("from_container_frame", "responder_frame", source)
    return registry
