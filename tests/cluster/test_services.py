"""Services in a cluster: from pods, nodes and outside; backends that go; an agent that dies."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.serial]

MANIFEST = Path(__file__).parent / "manifests" / "services.yaml"
VIP = {4: "10.96.100.1", 6: "[fd00:10:96::100:1]"}
NODE1 = {4: "172.18.0.2", 6: "[fd00:18::2]"}
NODE2 = {4: "172.18.0.3", 6: "[fd00:18::3]"}
