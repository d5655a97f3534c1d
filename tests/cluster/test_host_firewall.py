"""The node's own traffic under policy: a lab's packets, over the tunnel and natively routed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from axoneme.core.lab import probe, targets
from axoneme.core.lab.model import Lab
from axoneme.core.lab.paths import LabPaths
from axoneme.core.store.sync import SyncStore

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples" / "policies"
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: tools, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: tools, labels: {app: other}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: tools, labels: {app: client}}
spec: {nodeName: node2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
"""
LISTEN = """
import socket, threading
def serve(port):
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as s:
        while True:
            s.accept()[0].close()
for port in (8000, 8001):
    threading.Thread(target=serve, args=(port,)).start()
print("ready", flush=True)
"""


@pytest.fixture(scope="module", params=["tunnel", "native"])
def lab(cluster: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Two nodes that listen on two ports, a pod on each, and the firewall on."""
    cluster.up(2, enable_host_firewall="true", routing_mode=request.param)
    cluster.apply(PODS)
    listeners = []
    for node in ("node1", "node2"):
        words = ("lab", "node", node, "--", "/usr/bin/python3", "-c", LISTEN)
        listeners.append(cluster.start(*words))
        assert listeners[-1].stdout.readline() == "ready\n"
    yield cluster
    for each in listeners:
        each.kill()
        each.wait()
        each.stdout.close()
    cluster.down()


def expect(lab: Any, *lines: str) -> None:
    """``SOURCE TARGET PROTO[/PORT] VERDICT``, in each family that both ends have; all at once."""
    running = Lab.load(LabPaths(lab.environment["AXONEME_LAB"]))
    store = SyncStore(lab.root / "store")
    orders, expected = [], []
    for line in lines:
        source_text, target_text, what, verdict = line.split()
        source = targets.source(running, store, source_text)
        target = targets.target(running, store, target_text)
        proto, _, port = what.partition("/")
        for family in (4, 6):
            if source.address(family) and target.address(family):
                orders.append(probe.Order(source, target, family, proto, int(port or 0)))
                expected.append((line, family, verdict))
    results = probe.run(running, orders)
    found = zip(expected, results, strict=True)
    assert [(*e, r.as_dict()) for e, r in found if r.verdict != e[2]] == []


HOST_POLICY = (
    "node2 node1 tcp/8000 allowed",
    "node2 node1 tcp/8001 denied",
    "world node1 tcp/8000 denied",
    "tools/client node1 tcp/8000 denied",
    "tools/client node1 icmp allowed",
    "tools/other node1 icmp denied",
    "world node2 tcp/8001 allowed",
    "node1 node2 tcp/8001 allowed",
    "node1 tools/client tcp/8080 allowed",
    "node1 tools/far tcp/8080 allowed",
    "tools/far tools/client tcp/8080 allowed",
)


def check(lab: Any) -> None:
    """What ``clusterwide-host.yaml`` says, and what it leaves alone."""
    # A pod of another node reaches the router's address as itself, over the tunnel or natively.
    spec = yaml.safe_load((lab.root / "store" / "CiliumNode" / "node1.yaml").read_text())["spec"]
    routers = [a["ip"] for a in spec["addresses"] if a["type"] == "CiliumInternalIP"]
    far = [f"tools/far {r} tcp/8000 denied" for r in routers]
    expect(lab, *HOST_POLICY, *far, *(f"tools/far {r} icmp allowed" for r in routers))


def conditions(lab: Any, name: str) -> dict[str, Any]:
    """Condition ``Valid`` of a policy."""
    end = time.monotonic() + 10
    path = lab.root / "store" / "CiliumClusterwideNetworkPolicy" / f"{name}.yaml"
    while True:
        status = yaml.safe_load(path.read_text()).get("status") or {}
        if status.get("conditions") or time.monotonic() > end:
            return next(iter(status.get("conditions") or [{}]))
        time.sleep(0.1)


def test_the_node_is_a_subject(lab: Any) -> None:
    """What a policy with a nodeSelector says, of that node alone; also with its agent gone."""
    expect(lab, "world node1 tcp/8001 allowed")
    lab.apply(EXAMPLES / "clusterwide-host.yaml")
    check(lab)
    status = lab.run("status", "--node", "node1").stdout
    [line] = [x for x in status.splitlines() if x.startswith("Host firewall")]
    assert "Enabled" in line and "eth0" in line and "enforcing ingress" in line
    for port, word in ((8000, "allowed"), (8001, "denied")):
        ends = ("--from", "node2", "--to", "node1", "--port", f"{port}/TCP", "--node", "node1")
        answer = json.loads(lab.run("policy", "trace", *ends, "-o", "json", check=False).stdout)
        assert answer["ingress"]["verdict"] == word
        assert answer["ingress"]["realised"]["verdict"] == word
    lab.run("lab", "agent", "node1", "kill")
    check(lab)
    lab.run("lab", "agent", "node1", "start")
    check(lab)
    lab.delete(EXAMPLES / "clusterwide-host.yaml")
    expect(lab, "world node1 tcp/8001 allowed")


EGRESS = """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: quiet}
spec:
  nodeSelector: {matchLabels: {kubernetes.io/hostname: node1}}
  egress:
    - toEntities: [remote-node]
      toPorts: [{ports: [{port: "8000", protocol: TCP}]}]
"""
APISERVER = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints: [{addresses: [172.18.0.3]}]
ports: [{name: https, port: 8001}]
"""


def test_what_the_node_sends(lab: Any) -> None:
    """Egress is closed but for one port; answers and what it forwards for pods go on; the API
    server's port is open whatever rules say."""
    lab.apply(EGRESS)
    expect(
        lab,
        "node1 node2 tcp/8000 allowed",
        "node1 node2 tcp/8001 denied",
        "node1 world tcp/80 denied",
        "node1 tools/far tcp/8080 denied",
        "node1 tools/other tcp/8080 denied",
        "world node1 tcp/8001 allowed",
        "tools/client node1 tcp/8001 allowed",
        "tools/other world tcp/80 allowed",
        "tools/other tools/far tcp/8080 allowed",
    )
    lab.apply(APISERVER)
    end = time.monotonic() + 10
    probe = (
        "lab",
        "probe",
        "node1",
        "172.18.0.3",
        "-o",
        "json",
        "--proto",
        "tcp",
        "--port",
        "8001",
    )
    while json.loads(lab.run(*probe).stdout)["verdict"] != "allowed":
        assert time.monotonic() < end
    expect(lab, "node1 world tcp/80 denied")
    lab.delete(APISERVER)
    lab.delete(EGRESS)


L7 = EGRESS.replace("protocol: TCP}]", 'protocol: TCP}], rules: {dns: [{matchPattern: "*"}]}')


def test_bad_policies_and_the_switch(lab: Any) -> None:
    """An L7 rule for a node is refused and locks nothing; switched off, nothing is enforced."""
    lab.apply(L7, check=False)
    found = conditions(lab, "quiet")
    assert found["status"] == "False" and "nodeSelector" in found["message"]
    expect(lab, "node1 node2 tcp/8001 allowed")
    lab.delete(L7)
    lab.apply(EXAMPLES / "clusterwide-host.yaml")
    expect(lab, "world node1 tcp/8000 denied")
    lab.run("endpoint", "config", "host", "PolicyAuditMode=on", "--node", "node1")
    expect(lab, "world node1 tcp/8000 allowed")
    lab.run("endpoint", "config", "host", "PolicyAuditMode=off", "--node", "node1")
    expect(lab, "world node1 tcp/8000 denied")
    lab.run("lab", "agent", "all", "restart", "--config", "enable-host-firewall=false")
    expect(lab, "world node1 tcp/8000 allowed")
    lab.run("lab", "agent", "all", "restart", "--config", "enable-host-firewall=true")
    expect(lab, "world node1 tcp/8000 denied")
    lab.delete(EXAMPLES / "clusterwide-host.yaml")
