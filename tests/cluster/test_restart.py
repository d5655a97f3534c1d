"""Agents are killed, stopped, upgraded and reconfigured under load: packets do not notice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

LOAD = Path(__file__).parent / "load.py"
CONNECTIONS = 50
POLICY_DROPS = {133, 181}
"""Policy denied; policy denied by denylist."""
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: load, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: load, labels: {app: server}}
spec:
  nodeName: node2
  containers:
    - name: c
      ports:
        - {containerPort: 8080}
        - {containerPort: 8081, protocol: UDP}
        - {containerPort: 9998}
        - {containerPort: 9999, protocol: UDP}
---
apiVersion: v1
kind: Pod
metadata: {name: local, namespace: load, labels: {app: client}}
spec: {nodeName: node2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: load}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts:
        - ports:
            - {port: "8080", protocol: TCP}
            - {port: "8081", protocol: UDP}
            - {port: "5201", protocol: TCP}
"""


@pytest.fixture(scope="module", params=["tunnel", "native"])
def lab(request: pytest.FixtureRequest, cluster: Any) -> Iterator[Any]:
    """Two nodes with client and server."""
    cluster.down()
    cluster.up(2, routing_mode=request.param)
    cluster.apply(MANIFEST)
    yield cluster
    cluster.down()


@contextmanager
def under_load(lab: Any, client: str = "load/client") -> Iterator[dict[str, Any]]:
    """Load while the block runs; afterwards the dictionary holds what came of it."""
    server = lab.addresses("load/server")
    arguments = [server[4], server[6], "8080", "8081", "9998", "9999", str(CONNECTIONS)]
    process = lab.start(
        "lab", "exec", client, "--", sys.executable, str(LOAD), *arguments, stdin=subprocess.PIPE
    )
    result: dict[str, Any] = {}
    try:
        time.sleep(1.0)
        yield result
        result |= json.loads(process.communicate(timeout=60)[0])
    finally:
        process.kill()
        process.communicate()


@contextmanager
def iperf(lab: Any) -> Iterator[dict[str, Any]]:
    """One iperf3 connection while the block runs; afterwards its own report."""
    server = lab.start("lab", "exec", "load/server", "--", "iperf3", "-s", "-1", "-p", "5201")
    time.sleep(0.5)
    address = lab.addresses("load/server")[4]
    # Limited, so that the machine's two cores are left for the agents that start meanwhile.
    client = lab.start(
        *("lab", "exec", "load/client", "--", "iperf3", "-c", address, "-p", "5201"),
        *("-t", "120", "-b", "200M", "-J", "--connect-timeout", "3000"),
    )
    result: dict[str, Any] = {}
    try:
        yield result
        subprocess.run(["kill", "-INT", str(client.pid)], check=True)
        result |= json.loads(client.communicate(timeout=20)[0])
    finally:
        for process in (client, server):
            process.kill()
            process.communicate()


def drops(lab: Any) -> Counter[int]:
    """Dropped packets by reason on both nodes."""
    counted: Counter[int] = Counter()
    for node in ("node1", "node2"):
        for row in lab.call(node, "bpf", "metrics", "list"):
            if row["reason"]:  # 0 counts what was forwarded
                counted[row["reason"]] += row["packets"]
    return counted


def assert_nothing_noticed(result: dict[str, Any]) -> None:
    """No connection broken, no packet lost, nothing denied let through."""
    assert result["broken"] == [], result
    assert result["requests"] > CONNECTIONS, result
    assert result["lost"] == 0, result
    assert result["sent"] > 100, result
    assert result["leaks"] == [], result
    assert result["attempts"] > 50, result


def test_killed_and_started_under_load(lab: Any) -> None:
    """SIGKILL of both agents, one after the other and together, with iperf3 and 50 connections."""
    before = drops(lab)
    with under_load(lab) as result, iperf(lab) as report:
        for node in ("node1", "node2"):
            lab.agent(node, "kill")
            time.sleep(0.5)
            lab.agent(node, "start")
        lab.agent("all", "kill")
        time.sleep(0.5)
        lab.agent("all", "start")
        time.sleep(0.5)
    assert_nothing_noticed(result)
    transferred = [interval["sum"]["bytes"] for interval in report["intervals"]]
    assert len(transferred) >= 3
    assert all(transferred[:-1]), transferred
    after = drops(lab)
    others = {k: n for k, n in (after - before).items() if k not in POLICY_DROPS}
    assert not others, others


def test_upgraded_to_another_set_of_plugins_under_load(lab: Any) -> None:
    """Other programs replace the running ones, and back again."""
    with under_load(lab) as result:
        for masquerade in ("false", "true"):
            lab.agent(
                *("all", "restart"),
                *("--config", f"enable-ipv4-masquerade={masquerade}"),
                *("--config", f"enable-ipv6-masquerade={masquerade}"),
            )
    assert_nothing_noticed(result)


def test_on_one_node_too(lab: Any) -> None:
    """The same between two pods of the node whose agent dies."""
    with under_load(lab, "load/local") as result:
        lab.agent("node2", "kill")
        time.sleep(0.3)
        lab.agent("node2", "start")
    assert_nothing_noticed(result)


def test_policy_changes_while_the_agent_is_away_take_effect_when_it_is_back(lab: Any) -> None:
    """Denied stays denied meanwhile; what was newly allowed is allowed after the start."""
    lab.agent("node2", "kill")
    assert lab.probe("load/client", "load/server", "--port", "9998")["verdict"] == "denied"
    more = MANIFEST.replace('port: "5201"', 'port: "9998"')
    lab.apply(more)
    assert lab.probe("load/client", "load/server", "--port", "9998")["verdict"] == "denied"
    lab.agent("node2", "start")
    assert lab.probe("load/client", "load/server", "--port", "9998")["verdict"] == "allowed"
    lab.apply(MANIFEST)
    assert lab.probe("load/client", "load/server", "--port", "9998")["verdict"] == "denied"


def test_switching_the_routing_mode_loses_no_pod(lab: Any) -> None:
    """There and back by restart: the same pods with the same addresses, reaching each other."""
    before = lab.pods()
    mode = lab_mode(lab)
    other = "native" if mode == "tunnel" else "tunnel"
    for wanted in (other, mode):
        lab.agent("all", "restart", "--config", f"routing-mode={wanted}")
        assert lab_mode(lab) == wanted
        assert lab.pods() == before
        verdicts = {(r["from"], r["to"], r["port"]): r["verdict"] for r in lab.matrix()}
        assert verdicts["load/client", "load/server", 8080] == "allowed"
        assert verdicts["load/server", "load/client", 8080] == "allowed"
        assert verdicts["load/client", "load/local", 8080] == "allowed"
        assert verdicts["load/client", "load/server", 9998] == "denied"


def lab_mode(lab: Any) -> str:
    """The routing mode that node1's agent runs with."""
    return str(next(r["value"] for r in lab.call("node1", "config") if r["key"] == "routing-mode"))
