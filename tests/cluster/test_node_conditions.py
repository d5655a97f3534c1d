"""Nodes and stray pods at a real API server, with the operator that a cluster runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.needs("kubernetes"),
]

TAINT = "node.cilium.io/agent-not-ready"
AGENT = """
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: kube-system, labels: {k8s-app: axoneme}}
spec: {nodeName: node1, hostNetwork: true, containers: [{name: c, image: none}]}
"""
MANAGED = """
apiVersion: v1
kind: Pod
metadata: {name: dns-ours, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 53}]}]}
"""
STRAY = """
apiVersion: v1
kind: Pod
metadata: {name: dns-stray, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {nodeName: node1, containers: [{name: c, image: none}]}
"""


@pytest.fixture(scope="module")
def lab(cluster: Any) -> Iterator[Any]:
    """Two tainted nodes; no kubelet and no pod of an agent yet."""
    cluster.up(2, store="kubernetes", unmanaged_pod_watcher_interval="1s")
    cluster.apply(MANAGED)  # before the others: a lab starts every pod that there is
    for node in ("node1", "node2"):
        kubectl(cluster, "taint", "node", node, f"{TAINT}=:NoExecute", "other=x:NoSchedule")
        ready(cluster, "node", node)
    yield cluster
    cluster.down()


def kubectl(lab: Any, *arguments: str) -> str:
    """The real command."""
    text: str = lab.run("lab", "kubectl", *arguments).stdout
    return text


def ready(lab: Any, *what: str) -> None:
    """Say what a kubelet says."""
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    how = ("--subresource=status", "--type=merge", "-p", json.dumps(status))
    kubectl(lab, "patch", *what, *how)


def create(lab: Any, tmp_path: Any, text: str) -> None:
    """An object that the lab makes no pod of."""
    file = tmp_path / "object.yaml"
    file.write_text(text)
    kubectl(lab, "create", "-f", str(file))


def node(lab: Any, name: str) -> tuple[set[str], dict[str, str]]:
    """Keys of taints, and reasons of conditions."""
    body = json.loads(kubectl(lab, "get", "node", name, "-o", "json"))
    taints = {t["key"] for t in body["spec"].get("taints") or ()}
    reasons = {c["type"]: str(c.get("reason")) for c in body["status"].get("conditions") or ()}
    return {t for t in taints if not t.startswith("node.kubernetes.io/")}, reasons


def eventually(true: Callable[[], object], seconds: float = 60) -> None:
    """Within some time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.2)


def test_the_agent_s_readiness_frees_its_node_alone(lab: Any, tmp_path: Any) -> None:
    """Not the presence of its pod."""
    create(lab, tmp_path, AGENT)
    assert node(lab, "node1")[0] == {TAINT, "other"}
    ready(lab, "pod", "agent", "-n", "kube-system")
    eventually(lambda: node(lab, "node1")[0] == {"other"})
    assert node(lab, "node1")[1].get("NetworkUnavailable") == "CiliumIsUp"
    assert "Ready" in node(lab, "node1")[1]
    taints, conditions = node(lab, "node2")
    assert taints == {TAINT, "other"} and "NetworkUnavailable" not in conditions


def test_a_pod_that_came_up_without_us_is_restarted(lab: Any, tmp_path: Any) -> None:
    """In its own time; one that an agent manages is not."""
    create(lab, tmp_path, STRAY)

    def ending(name: str) -> bool:
        path = ("-o", "jsonpath={.metadata.deletionTimestamp}")
        return bool(kubectl(lab, "get", "pod", name, "-n", "kube-system", *path).strip())

    eventually(lambda: ending("dns-stray"), 90)
    assert not ending("dns-ours")
