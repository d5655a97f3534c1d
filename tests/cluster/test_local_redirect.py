"""Clients of a redirected service get their own node's pod; a file of services needs no cluster."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.modes import LabRun

pytestmark = [pytest.mark.root, pytest.mark.lab]

MANIFEST = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: cache}
spec:
  selector: {matchLabels: {app: cache}}
  template:
    metadata: {labels: {app: cache}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: cache}
spec:
  clusterIP: 10.96.9.1
  clusterIPs: [10.96.9.1]
  selector: {app: cache}
  ports: [{port: 80, targetPort: 8080}]
"""
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumLocalRedirectPolicy
metadata: {name: cache}
spec:
  redirectFrontend: {serviceMatcher: {serviceName: cache, namespace: default}}
  redirectBackend:
    localEndpointSelector: {matchLabels: {app: cache}}
    toPorts: [{port: "8080", protocol: TCP}]
"""
FILE = """
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: none}
spec: {clusterIP: 10.96.9.9, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: plain-1, namespace: none, labels: {kubernetes.io/service-name: plain}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [ADDRESS]}]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabRun]:
    """Two nodes with policies and a file on."""
    file = tmp_path_factory.mktemp("lb") / "state.yaml"
    config = {"enable-local-redirect-policy": "true", "lb-state-file": str(file)}
    name = f"axr{os.getpid() % 100000}"
    with LabRun(name, "snat", "tunnel", nodes=2, config=config, manifest=MANIFEST) as running:
        running.file = file  # type: ignore[attr-defined]
        yield running


def nodes(lab: LabRun, source: str, address: str = "10.96.9.1") -> set[str]:
    """Who answers twelve connections."""
    curl = ["curl", "-s", "-H", "Connection: close", "-m", "0.5", *[f"http://{address}/"] * 12]
    text = lab.run("lab", "node", source, "--", *curl, check=False)
    return {json.loads(line)["node"] for line in text.splitlines()}


def eventually(found: object, wanted: object) -> bool:
    """Until a callable says what is wanted, ten seconds at most."""
    assert callable(found)
    for _ in range(50):
        if found() == wanted:
            return True
        time.sleep(0.2)
    return False


def test_clients_get_their_own_nodes_pod(lab: LabRun) -> None:
    """On each node; without the policy, any."""
    both = {"node1", "node2"}
    assert nodes(lab, "node1") == both
    lab.apply(POLICY)
    assert eventually(lambda: nodes(lab, "node1"), {"node1"})
    assert eventually(lambda: nodes(lab, "node2"), {"node2"})
    rows = json.loads(lab.run("lrp", "list", "--node", "node1", "-o", "json"))
    assert [(r["name"], len(r["backends"])) for r in rows] == [("default/cache", 2)]
    lab.remove(POLICY)
    assert eventually(lambda: nodes(lab, "node1"), both)


def test_a_file_of_services_is_served(lab: LabRun) -> None:
    """It comes, is broken and is gone, which changes nothing, and is empty."""
    file: Path = lab.file  # type: ignore[attr-defined]
    pods = json.loads(lab.run("lab", "pods", "-o", "json"))
    [pod] = [p for p in pods if p["node"] == "node2"]
    address = next(a for a in pod["addresses"] if ":" not in a)
    file.write_text(FILE.replace("ADDRESS", address))
    assert eventually(lambda: nodes(lab, "node1", "10.96.9.9"), {"node2"})
    file.write_text(FILE)
    report = "status", "--node", "node1"
    assert eventually(lambda: "endpoints[0].addresses[0]" in lab.run(*report, check=False), True)
    assert nodes(lab, "node1", "10.96.9.9") == {"node2"}
    file.unlink()
    assert eventually(lambda: "No such file" in lab.run(*report, check=False), True)
    assert nodes(lab, "node1", "10.96.9.9") == {"node2"}
    file.write_text("")
    assert eventually(lambda: nodes(lab, "node1", "10.96.9.9"), set())
