"""A node's configuration that changes under its agent: applied where it can be, else told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: drift, labels: {app: client}}
spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: drift, labels: {app: server}}
spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: nobody, namespace: drift}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: [{fromEndpoints: [{matchLabels: {app: other}}]}]
"""


@pytest.fixture(scope="module")
def lab(cluster: Any) -> Iterator[Any]:
    """One node, and a server that no rule lets anybody reach."""
    cluster.up(1)
    cluster.apply(MANIFEST)
    yield cluster
    cluster.down()


def eventually(read: Callable[[], object], wanted: object) -> None:
    """Within some looks at the files."""
    end = time.monotonic() + 30
    while (found := read()) != wanted and time.monotonic() < end:
        time.sleep(0.2)
    assert found == wanted


def test_a_key_changes_the_verdict_or_waits_for_a_restart(lab: Any) -> None:
    """Policy's mode follows its file; a metric of routes is named, until the agent starts again."""
    config: Path = lab.root / "nodes" / "node1" / "config"

    def verdict() -> str:
        return str(lab.probe("drift/client", "drift/server")["verdict"])

    def drift() -> dict[str, str]:
        return {row["key"]: row["wanted"] for row in lab.call("node1", "config", "drift")}

    def delta() -> float:
        (sample,) = lab.call("node1", "metrics", "list", "drift_checker_config_delta")
        return float(sample["value"])

    assert (drift(), delta(), verdict()) == ({}, 0, "denied")
    (config / "policy-audit-mode").write_text("true")
    eventually(verdict, "allowed")
    assert drift() == {}
    (row,) = lab.call("node1", "config", "policy-audit-mode")
    assert (row["value"], row["origin"]) == ("true", str(config / "policy-audit-mode"))

    (config / "route-metric").write_text("77")
    (config / "enable-ipv7").write_text("true")
    (config / "mtu").write_text("big")
    eventually(drift, {"mtu": "big", "route-metric": "77"})
    assert delta() == 2
    status = lab.run("status", "--node", "node1").stdout
    assert "Warning: configuration: not taken: mtu; waits for a restart: route-metric" in status
    shown = lab.run("config", "drift", "--node", "node1").stdout
    heading, *rows = [line.split() for line in shown.splitlines()]
    assert [word.upper() for word in heading] == ["KEY", "RUNNING", "WANTED", "SOURCE", "PROBLEM"]
    assert rows[0][:2] == ["mtu", "0"] and rows[0][4:] == ["expected", "an", "integer"]
    assert rows[1] == ["route-metric", "0", "77", str(config / "route-metric")]
    assert "unknown configuration key enable-ipv7" in lab.run("config", "--node", "node1").stderr

    (config / "policy-audit-mode").unlink()
    (config / "mtu").unlink()
    eventually(verdict, "denied")
    eventually(drift, {"route-metric": "77"})
    lab.agent("node1", "restart", "--config", "route-metric=77")
    eventually(drift, {})
    report = json.loads(lab.run("status", "--node", "node1", "-o", "json").stdout)
    assert "configuration" not in {component["name"] for component in report["components"]}


def test_who_may_reach_a_node_s_own_pods_follows_its_key(lab: Any) -> None:
    """Its new connections; and how many refused packets are kept follows its own."""
    config: Path = lab.root / "nodes" / "node1" / "config"
    address = lab.addresses(lab.pod("drift/server"))[4]
    fetch = ("curl", "-s", "-o", "/dev/null", "-m", "1", f"http://{address}:8080/")

    def reached() -> bool:
        return lab.run("lab", "node", "node1", "--", *fetch, check=False).returncode == 0

    def kept() -> int:
        shown = lab.run("monitor", "--recent", "--node", "node1", "-o", "json", check=False)
        return len(shown.stdout.splitlines())

    assert reached()
    (config / "allow-localhost").write_text("policy")
    eventually(reached, False)
    assert kept() > 0
    (config / "policy-events-buffer").write_text("0")
    eventually(kept, 0)
    (config / "allow-localhost").unlink()
    (config / "policy-events-buffer").unlink()
    eventually(reached, True)
    key = ("config", "policy-events-buffer")
    eventually(lambda: lab.call("node1", *key)[0]["is_default"], True)
