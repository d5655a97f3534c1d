"""A dump of a real API server: everything is in it, and no Secret's value anywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.cli.main import run
from axoneme.core.k8s.access import open_access
from axoneme.core.k8s.definitions.install import install
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.sysdump import cluster
from axoneme.core.sysdump.archive import Archive
from axoneme.core.sysdump.redact import Scrubber
from axoneme.core.testing.apiserver import ApiServer, api_server

pytestmark = pytest.mark.needs("kubernetes")

VALUE = "correct-horse-battery-staple"
ENCODED = base64.b64encode(VALUE.encode()).decode()
OBJECTS = f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: default, namespace: kube-system}}
---
apiVersion: v1
kind: Secret
metadata: {{name: database, namespace: default}}
stringData: {{password: {VALUE}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: app, namespace: default}}
data: {{app.ini: "password={VALUE}"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: axoneme-config, namespace: kube-system}}
data: {{mtu: "1500", odd-key: "{VALUE}"}}
---
apiVersion: v1
kind: Pod
metadata:
  name: axoneme-x
  namespace: kube-system
  labels: {{app.kubernetes.io/part-of: axoneme, k8s-app: axoneme}}
  annotations: {{note: {VALUE}, io.cilium/note: {VALUE}}}
spec:
  nodeName: n1
  automountServiceAccountToken: false
  containers:
  - name: agent
    image: i
    args: ["--password", "{VALUE}"]
    env: [{{name: DB, value: "{VALUE}"}}, {{name: K8S_NODE_NAME, value: n1}}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: http, namespace: default}}
spec:
  endpointSelector: {{}}
  ingress:
  - toPorts:
    - ports: [{{port: "80", protocol: TCP}}]
      rules: {{http: [{{path: /a, headers: ["X-Token: {VALUE}"]}}]}}
"""


class Log(BaseHTTPRequestHandler):
    """A container's log that holds the value."""

    def do_GET(self) -> None:
        """The API server asks for ``/containerLogs/NAMESPACE/POD/CONTAINER``."""
        assert self.path.startswith("/containerLogs/kube-system/axoneme-x/agent?")
        text = f"agent ready\nconnecting with {VALUE}\nand {ENCODED}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def kubelet(folder: Path) -> Iterator[int]:
    """A kubelet's port, as far as logs go."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), Log) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


async def _install(server: ApiServer) -> None:
    store = KubernetesStore(await open_access(str(server.kubeconfig)))
    try:
        await install(store)
    finally:
        await store.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With a node that has a log, and objects with a value wherever one may be."""
    folder = tmp_path_factory.mktemp("sysdump")
    with api_server(folder) as running, kubelet(folder) as port:
        asyncio.run(_install(running))
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
        running.kubectl("apply", "-f", "-", text=json.dumps(node))
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        patch = json.dumps({"status": status})
        running.kubectl("patch", "node", "n1", "--subresource=status", "--type=merge", "-p", patch)
        running.kubectl("apply", "-f", "-", text=OBJECTS)
        yield running


def unpacked(path: Path) -> dict[str, bytes]:
    """Files by their name below the folder."""
    found = {}
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found[member.name.partition("/")[2]] = file.read()
    return found


def test_a_secret_is_nowhere_in_the_archive(server: ApiServer, tmp_path: Path) -> None:
    """Not in objects, arguments, variables, annotations, policies, configuration or logs."""
    path = tmp_path / "dump.tar.gz"
    assert run(["sysdump", "--kubeconfig", str(server.kubeconfig), "--output", str(path)]) == 0
    files = unpacked(path)
    assert others(files) == []
    for name, data in files.items():
        assert VALUE.encode() not in data and ENCODED.encode() not in data, name
    assert b"agent ready" in files["logs/kube-system/axoneme-x/agent.log"]
    secret = json.loads(files["objects/Secret.json"])[0]
    assert (secret["metadata"]["name"], secret["keys"]) == ("database", ["password"])
    assert b'"/a"' in files["objects/CiliumNetworkPolicy.json"]
    configs = {c["metadata"]["name"]: c for c in json.loads(files["objects/ConfigMap.json"])}
    assert configs["axoneme-config"]["data"]["mtu"] == "1500" and "data" not in configs["app"]
    pod = json.loads(files["objects/Pod.json"])[0]
    env = {v["name"]: v["value"] for v in pod["spec"]["containers"][0]["env"]}
    assert env == {"DB": "<redacted>", "K8S_NODE_NAME": "n1"}


def test_without_the_right_to_read_secrets_it_is_nowhere_either(
    server: ApiServer, tmp_path: Path
) -> None:
    """Then lists of harmless fields alone keep it out of objects; what is missing is noted."""

    class Blind(KubernetesStore):
        """May read no Secret."""

        async def list(self, kind: str, namespace: str = "") -> Any:
            if kind == "Secret":
                raise PermissionError("secrets is forbidden")
            return await super().list(kind, namespace)

    path = tmp_path / "dump.tar.gz"
    access = asyncio.run(open_access(str(server.kubeconfig)))
    scrubber = Scrubber()
    with Archive(path, scrubber) as archive:
        cluster.collect(archive, scrubber, Blind(access), lines=10)
    files = unpacked(path)
    assert others(files) == ["objects/Secret.json: secrets is forbidden"]
    for name in ("Pod", "CiliumNetworkPolicy"):
        data = files[f"objects/{name}.json"]
        shown = data.replace(b'"io.cilium/note": "' + VALUE.encode(), b"")
        assert VALUE.encode() not in shown, name


def test_without_a_server_there_is_no_dump(
    server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says why, and no file that looks like one; the same without an agent."""
    kubeconfig = tmp_path / "kubeconfig"
    server.write_kubeconfig(kubeconfig, "token", "https://127.0.0.1:1")
    path = tmp_path / "dump.tar.gz"
    for place in (("--kubeconfig", kubeconfig), ("--socket", tmp_path / "none.sock")):
        assert run(["sysdump", *map(str, place), "--output", str(path)]) == 1
        assert capsys.readouterr().err.startswith("error: ")
    assert [p.name for p in tmp_path.iterdir()] == ["kubeconfig"]


def test_agents_are_asked_where_somebody_can_reach_them(server: ApiServer, tmp_path: Path) -> None:
    """The seam for commands in pods: by the pod's name, into the folder of its node."""

    def reach(namespace: str, pod: str) -> Any:
        assert (namespace, pod) == ("kube-system", "axoneme-x")
        return lambda method, params: [{"method": method, "key": "k", "value": VALUE}]

    path = tmp_path / "dump.tar.gz"
    access = asyncio.run(open_access(str(server.kubeconfig)))
    scrubber = Scrubber()
    with Archive(path, scrubber) as archive:
        cluster.collect(archive, scrubber, KubernetesStore(access), lines=10, reach=reach)
    files = unpacked(path)
    assert b"status.get" in files["nodes/n1/status.json"]
    assert b"service.list" in files["nodes/n1/services.json"]
    assert not any(VALUE.encode() in data for data in files.values())


def others(files: dict[str, bytes]) -> list[str]:
    """Problems, without those of asking an agent whose pod nobody runs here."""
    problems: list[str] = json.loads(files["problems.json"])
    assert all("exec in kube-system" in p for p in problems if p.startswith("nodes/"))
    return [p for p in problems if not p.startswith("nodes/")]
