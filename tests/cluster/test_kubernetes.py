"""A lab on a real API server: what kubectl changes takes effect; a server that dies is missed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from axoneme.core.lab import cni
from axoneme.core.lab.model import Lab
from axoneme.core.lab.paths import LabPaths
from tests.cluster.kubernetes import OnKubernetes, eventually

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.needs("kubernetes")]

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: web, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {containers: [{name: c, image: client}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop, labels: {app: other}}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[OnKubernetes]:
    """Two nodes."""
    with OnKubernetes(f"axk{os.getpid() % 100000}", MANIFEST) as running:
        yield running


def test_objects_are_those_of_any_cluster(lab: OnKubernetes) -> None:
    """Endpoints, identities and the policy's condition, by kubectl's own columns."""
    rows = [r.split() for r in lab.kubectl("get", "cep", "-n", "shop", "--no-headers").splitlines()]
    enforced = {r[0].partition("-")[0]: r[2] for r in rows}
    assert enforced == {"client": "non-enforcing", "other": "non-enforcing", "web": "enforcing"}
    assert len({r[1] for r in rows}) == 3
    path = "jsonpath={.status.conditions[0].status}"
    assert lab.kubectl("get", "cnp", "web", "-n", "shop", "-o", path) == "True"
    assert len(lab.kubectl("get", "cn", "--no-headers").splitlines()) == 2


def test_kinds_of_other_projects_are_there(lab: OnKubernetes) -> None:
    """Which a cluster's owner installs."""
    assert "ClusterNetworkPolicy" in lab.kubectl("api-resources", "--no-headers")


def test_a_label_by_kubectl_changes_identity_and_policy(lab: OnKubernetes) -> None:
    """There and back."""
    assert (lab.verdict("client"), lab.verdict("other")) == ("allowed", "denied")
    lab.kubectl("label", "pod", "other", "-n", "shop", "--overwrite", "app=client")
    eventually(lambda: lab.verdict("other"), "allowed")
    lab.kubectl("label", "pod", "other", "-n", "shop", "--overwrite", "app=other")
    eventually(lambda: lab.verdict("other"), "denied")


def test_without_its_server_a_node_goes_on_and_catches_up(
    lab: OnKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Policies and services hold, a known pod is connected anew, and then all is written."""
    monkeypatch.setenv("AXONEME_LAB", lab.name)
    paths = LabPaths.current()
    running = Lab.load(paths)
    record = next(r for r in running.pods() if r.full_name == "shop/other")
    web = lab.kubectl("get", "svc", "web", "-n", "shop", "-o", "jsonpath={.spec.clusterIP}")
    lab.kill_server()
    eventually(lab.store_health, "Warning")

    def answer(pod: str) -> str:
        fetch = ("curl", "-s", "-m", "3", f"http://{web}/")
        return lab.run("lab", "exec", f"shop/{pod}", "--", *fetch, check=False)

    assert json.loads(answer("client"))["pod"].startswith("shop/web")
    assert answer("other") == ""
    # A runtime that makes a sandbox again: what the agent knows of the pod will do.
    cni.delete(paths, record)
    addresses = cni.add_once(paths, record)
    assert addresses and answer("other") == ""
    lab.start_server(paths)
    eventually(lab.store_health, "Ok")
    path = "jsonpath={.status.networking.addressing[0].ipv4}"
    eventually(
        lambda: lab.kubectl("get", "cep", "other", "-n", "shop", "-o", path), str(addresses[0])
    )
    lab.kubectl("label", "pod", "other", "-n", "shop", "--overwrite", "app=client")
    eventually(lambda: lab.verdict("other"), "allowed")
