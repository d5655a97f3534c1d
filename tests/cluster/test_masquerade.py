"""Who keeps a pod's address on the way to the world: ip-masq-agent's file, the pod's annotation."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.services.modes import LabRun

pytestmark = [pytest.mark.root, pytest.mark.lab]

WORLD = {4: "198.51.100.1", 6: "2001:db8:51::1"}
NODE = {4: "172.18.0.2", 6: "fd00:18::2"}
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: default}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: kept
  namespace: default
  annotations: {ipam.cilium.io/skip-masquerade: "true"}
spec: {containers: [{name: c}]}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LabRun, Path]]:
    """One node; the world knows the way back to its pods. The file translates everything."""
    file = tmp_path_factory.mktemp("agent") / "ip-masq-agent"
    write(file, [])
    config = {"enable-ip-masq-agent": "true", "ip-masq-agent-config-path": str(file)}
    name = f"axq{os.getpid() % 100000}"
    with LabRun(name, "snat", "native", nodes=1, config=config, manifest=PODS) as running:
        for network, hop in (("10.244.0.0/16", NODE[4]), ("fd00:10:244::/48", NODE[6])):
            world = ["ip", "-n", f"axo-{name}-world", "route", "add", network, "via", hop]
            subprocess.run(world, check=True)
        yield running, file


def write(file: Path, networks: list[str]) -> None:
    """Replace the file, as a mounted ConfigMap is replaced."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"nonMasqueradeCIDRs": networks}))
    fresh.rename(file)


def seen(lab: LabRun, pod: str, family: int) -> str:
    """As whom the world sees the pod."""
    host = WORLD[family] if family == 4 else f"[{WORLD[family]}]"
    text = lab.run("lab", "exec", pod, "--", "curl", "-sg", "-m", "3", f"http://{host}:80/")
    return str(json.loads(text)["peer"])


def address(lab: LabRun, pod: str, family: int) -> str:
    """The pod's own."""
    rows = json.loads(lab.run("lab", "pods", "-o", "json"))
    found = next(r["addresses"] for r in rows if r["name"] == pod)
    return next(str(a) for a in found if ip_address(a).version == family)


@pytest.mark.parametrize("family", [4, 6])
def test_a_pods_annotation_keeps_its_address(lab: tuple[LabRun, Path], family: int) -> None:
    """And nobody else's."""
    assert seen(lab[0], "plain", family) == NODE[family]
    assert seen(lab[0], "kept", family) == address(lab[0], "kept", family)


@pytest.mark.parametrize("family", [4, 6])
def test_the_agents_file_counts_when_it_changes(lab: tuple[LabRun, Path], family: int) -> None:
    """There and back, without a restart; a bad file leaves the last good one."""
    running, file = lab
    network = {4: "198.51.100.0/24", 6: "2001:db8:51::/48"}[family]
    own = address(running, "plain", family)
    for networks, wanted in (([network], own), (["nonsense"], own), ([], NODE[family])):
        write(file, networks)
        end = time.monotonic() + 15
        while (found := seen(running, "plain", family)) != wanted and time.monotonic() < end:
            time.sleep(0.2)
        assert found == wanted, networks
