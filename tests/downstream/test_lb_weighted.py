"""A load-balancing algorithm in a distribution of its own, chosen by annotation on one service."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

SOURCE = Path(__file__).parent / "axoneme-lb-weighted"
LAB = "axotweight"
MANIFEST = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata:
  name: weighted
  annotations:
    service.cilium.io/lb-algorithm: weighted
    weighted.example.com/nodes: "node1=9, node2=1"
spec: {clusterIP: 10.96.7.1, clusterIPs: [10.96.7.1], selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {clusterIP: 10.96.7.2, clusterIPs: [10.96.7.2], selector: {app: web}, ports: [{port: 8080}]}
"""

Axoneme = Callable[..., str]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, installed by pip into a folder of its own."""
    work = tmp_path_factory.mktemp("weighted")
    shutil.copytree(SOURCE, work / "source")
    target = work / "site"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"),
            *("--disable-pip-version-check", "--target", str(target), str(work / "source")),
        ],
        check=True,
        capture_output=True,
    )
    return target


@pytest.fixture
def axoneme(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Axoneme]:
    """The command line with the plugin installed, on a lab of its own."""
    monkeypatch.setenv("AXONEME_LAB", LAB)
    monkeypatch.setenv("PYTHONPATH", str(installed))

    def run(*arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "axoneme.core.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    run("lab", "down", check=False)
    try:
        yield run
    finally:
        run("lab", "down", check=False)


def shares(axoneme: Axoneme, address: str) -> Counter[str]:
    """Nodes that answered 80 connections of the node's own."""
    curl = ["curl", "-s", "-H", "Connection: close", *[f"http://{address}:8080/"] * 80]
    text = axoneme("lab", "node", "node1", "--", *curl)
    return Counter(json.loads(line)["node"] for line in text.splitlines())


def test_one_service_is_weighted_and_the_other_is_not(axoneme: Axoneme, tmp_path: Path) -> None:
    """Nine to one where the annotation says so; even where it does not."""
    manifest = tmp_path / "web.yaml"
    manifest.write_text(MANIFEST)
    axoneme("lab", "up", "--nodes", "2", "--config", "bpf-lb-algorithm-annotation=true")
    axoneme("lab", "apply", "-f", str(manifest))
    rows = json.loads(axoneme("service", "list", "--node", "node1", "-o", "json"))
    found = {r["frontend"]: r["algorithm"] for r in rows}
    assert found["10.96.7.1:8080/TCP"] == "weighted"
    assert found["10.96.7.2:8080/TCP"] == "random"
    weighted, plain = shares(axoneme, "10.96.7.1"), shares(axoneme, "10.96.7.2")
    assert weighted.total() == plain.total() == 80
    assert weighted["node1"] >= 60
    assert 20 <= plain["node1"] <= 60
    axoneme("lab", "agent", "node1", "kill")
    axoneme("lab", "agent", "node1", "start")
    assert shares(axoneme, "10.96.7.1")["node1"] >= 60
