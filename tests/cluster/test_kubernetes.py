"""A lab on a real API server: what kubectl changes takes effect; a server that dies is missed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from axoneme.core.lab import cni, netns
from axoneme.core.lab.model import Lab
from axoneme.core.lab.paths import WORLD, LabPaths
from axoneme.core.lab.stores import LabServer
from tests.services.modes import LabRun

pytestmark = [pytest.mark.root, pytest.mark.serial, pytest.mark.needs("kubernetes")]

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


class OnKubernetes(LabRun):
    """Whose objects live at an API server."""

    def __enter__(self) -> OnKubernetes:
        try:
            self.run("lab", "up", "--store", "kubernetes")
            self.apply(MANIFEST)
        except BaseException:
            self.__exit__()
            raise
        return self

    def kubectl(self, *arguments: str) -> str:
        """The real command."""
        return self.run("lab", "kubectl", *arguments)

    def verdict(self, pod: str) -> str:
        """Of a connection from a pod to the service."""
        probe = ("lab", "probe", f"shop/{pod}", "shop/web", "--port", "80", "-o", "json")
        return str(json.loads(self.run(*probe, check=False))["verdict"])


@pytest.fixture(scope="module")
def lab() -> Iterator[OnKubernetes]:
    """Two nodes."""
    with OnKubernetes(f"axk{os.getpid() % 100000}", "snat", "tunnel") as running:
        yield running


def eventually(read: Callable[[], object], wanted: object) -> None:
    """Within some seconds."""
    end = time.monotonic() + 20
    while (found := read()) != wanted and time.monotonic() < end:
        time.sleep(0.2)
    assert found == wanted


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


def store_health(lab: OnKubernetes) -> str:
    """What node1 says of the API server."""
    report = json.loads(lab.run("status", "--node", "node1", "-o", "json", check=False))
    return str(next((c["health"] for c in report["components"] if c["name"] == "store"), "Ok"))


def kill_server(lab: OnKubernetes) -> None:
    """The API server of this lab, without a warning."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes()
            if b"kube-apiserver\0" in words and f"/{lab.name}/".encode() in words:
                os.kill(int(process.name), signal.SIGKILL)


def test_without_its_server_a_node_goes_on_and_catches_up(
    lab: OnKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Policies and services hold, a known pod is connected anew, and then all is written."""
    monkeypatch.setenv("AXONEME_LAB", lab.name)
    paths = LabPaths.current()
    running = Lab.load(paths)
    record = next(r for r in running.pods() if r.full_name == "shop/other")
    web = lab.kubectl("get", "svc", "web", "-n", "shop", "-o", "jsonpath={.spec.clusterIP}")
    kill_server(lab)
    eventually(lambda: store_health(lab), "Warning")

    def answer(pod: str) -> str:
        fetch = ("curl", "-s", "-m", "3", f"http://{web}/")
        return lab.run("lab", "exec", f"shop/{pod}", "--", *fetch, check=False)

    assert json.loads(answer("client"))["pod"].startswith("shop/web")
    assert answer("other") == ""
    # A runtime that makes a sandbox again: what the agent knows of the pod will do.
    cni.delete(paths, record)
    addresses = cni.add_once(paths, record)
    assert addresses and answer("other") == ""
    netns.run_in(paths.netns(WORLD), LabServer(paths).start_api)
    eventually(lambda: store_health(lab), "Ok")
    path = "jsonpath={.status.networking.addressing[0].ipv4}"
    eventually(
        lambda: lab.kubectl("get", "cep", "other", "-n", "shop", "-o", path), str(addresses[0])
    )
    lab.kubectl("label", "pod", "other", "-n", "shop", "--overwrite", "app=client")
    eventually(lambda: lab.verdict("other"), "allowed")
