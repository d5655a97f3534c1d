"""Policies about nodes by label, and about the API server, wherever it is: a lab's packets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.sync import SyncStore

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples" / "policies"
NODES = ("node1", "node2", "node3")
WORLD = {4: "198.51.100.1", 6: "2001:db8:51::1"}
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: mug, namespace: garden, labels: {app: mug}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: pot, namespace: garden, labels: {app: pot}}
spec: {nodeName: node2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
"""


@pytest.fixture(scope="module")
def lab(cluster: Any) -> Iterator[Any]:
    """Three nodes, two pods."""
    cluster.up(3, enable_node_selector_labels="true")
    cluster.apply(PODS)
    yield cluster
    cluster.down()


@pytest.fixture
def example(lab: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    """One example policy, applied alone."""
    path = EXAMPLES / f"{request.param}.yaml"
    lab.apply(path)
    yield
    lab.delete(path)


def verdict(lab: Any, source: str, target: str, *words: str) -> str:
    done = lab.run("lab", "probe", source, target, "-o", "json", *words)
    return str(json.loads(done.stdout)["verdict"])


def of_nodes(lab: Any, target: str) -> dict[str, str]:
    """Verdict of an attempt from each node, which must be the same in both families."""
    found = {}
    for node in NODES:
        both = {verdict(lab, node, target, "--family", v) for v in "46"}
        assert len(both) == 1, node
        found[node] = both.pop()
    return found


def label(lab: Any, node: str, **labels: str | None) -> None:
    """Change labels of a Node, as ``kubectl label`` does."""
    store = SyncStore(lab.root / "store")
    obj = store.get(ObjectKey("Node", "", node))
    wanted = {k: v for k, v in {**obj.labels, **labels}.items() if v is not None}
    store.apply({**obj.body, "metadata": {**obj.body["metadata"], "labels": wanted}})


def await_true(what: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


@pytest.mark.parametrize("example", ["cilium-from-nodes"], indirect=True)
def test_nodes_by_label(lab: Any, example: None) -> None:
    """Only the nodes with the label get in, the pod's own one among them if it has it; a label
    that comes, or goes, changes that without any other change."""
    closed = dict.fromkeys(NODES, "denied")
    # the pod's own node always may, by allow-localhost
    assert of_nodes(lab, "garden/mug") == {**closed, "node1": "allowed"}
    label(lab, "node3", role="gateway")
    await_true(lambda: verdict(lab, "node3", "garden/mug") == "allowed")
    assert of_nodes(lab, "garden/mug") == {**closed, "node1": "allowed", "node3": "allowed"}
    assert verdict(lab, "garden/pot", "garden/mug") == "denied"
    ends = ("--from", "node3", "--to", "garden/mug", "--port", "8080/TCP")
    done = lab.run("policy", "trace", *ends, "--node", "node1")
    assert "mug-from-nodes" in done.stdout
    lab.run("lab", "agent", "node1", "kill")
    assert verdict(lab, "node3", "garden/mug") == "allowed"
    lab.run("lab", "agent", "node1", "start")
    assert of_nodes(lab, "garden/mug") == {**closed, "node1": "allowed", "node3": "allowed"}
    label(lab, "node3", role=None)
    await_true(lambda: verdict(lab, "node3", "garden/mug") == "denied")


@pytest.mark.parametrize("example", ["cilium-to-nodes"], indirect=True)
def test_to_nodes_by_label(lab: Any, example: None) -> None:
    """The same for what a pod may reach: by the underlay's and by the router's address."""
    label(lab, "node2", role="gateway")
    await_true(lambda: verdict(lab, "garden/mug", "node2", "--proto", "icmp") == "allowed")
    for family in "46":
        words = ("--proto", "icmp", "--family", family)
        assert verdict(lab, "garden/mug", "node3", *words) == "denied"
        assert verdict(lab, "garden/mug", "node1", *words) == "denied"
    label(lab, "node2", role=None)


SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: TYPE
endpoints: [{addresses: [ADDRESS]}]
ports: [{name: https, port: 6443}]
"""


def api_servers(addresses: list[str]) -> str:
    """Slices of the service ``kubernetes``."""
    found = []
    for number, address in enumerate(addresses):
        kind = "IPv6" if ":" in address else "IPv4"
        text = SLICE.replace("NAME", f"kubernetes-{number}").replace("TYPE", kind)
        found.append(text.replace("ADDRESS", f'"{address}"'))
    return "---".join(found)


@pytest.mark.parametrize("example", ["cilium-entity-kube-apiserver"], indirect=True)
def test_the_api_server(lab: Any, example: None) -> None:
    """On another node, or outside the cluster; nobody before its addresses are known."""
    mine = ["172.18.0.4", "fd00:18::4"]
    for family in "46":
        words = ("--proto", "icmp", "--family", family)
        assert verdict(lab, "garden/mug", "node3", *words) == "denied"
        assert verdict(lab, "garden/mug", "world", "--family", family) == "denied"
    text = api_servers(mine)
    lab.apply(text)
    for family in "46":
        words = ("--proto", "icmp", "--family", family)
        await_true(lambda w=words: verdict(lab, "garden/mug", "node3", *w) == "allowed")
        assert verdict(lab, "garden/mug", "node2", *words) == "denied"
    lab.apply(api_servers([WORLD[4], WORLD[6]]))
    for family in "46":
        words = ("--family", family)
        await_true(lambda w=words: verdict(lab, "garden/mug", "world", *w) == "allowed")
        assert verdict(lab, "garden/mug", "node3", "--proto", "icmp", *words) == "denied"
    lab.delete(text)
    await_true(lambda: verdict(lab, "garden/mug", "world") == "denied")
