"""``axoneme build-config`` as a process, at a real API server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from axoneme.core.testing.apiserver import ApiServer, api_server

pytestmark = pytest.mark.needs("kubernetes")

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: axoneme-config, namespace: kube-system}
data: {mtu: "1500", debug: "false", routing-mode: native}
"""
NODES = """
apiVersion: v1
kind: Node
metadata: {name: plain}
---
apiVersion: v1
kind: Node
metadata: {name: gpu, labels: {gpu: "yes", zone: a}}
"""
NODE_CONFIGS = """
apiVersion: cilium.io/v2
kind: CiliumNodeConfig
metadata: {name: 20-gpu, namespace: kube-system}
spec:
  nodeSelector: {matchLabels: {gpu: "yes"}}
  defaults: {mtu: "9000"}
---
apiVersion: cilium.io/v2
kind: CiliumNodeConfig
metadata: {name: 10-zone, namespace: kube-system}
spec:
  nodeSelector: {matchExpressions: [{key: zone, operator: In, values: [a, b]}]}
  defaults: {mtu: "1400", debug: "true", enable-ipv7: "true"}
---
apiVersion: cilium.io/v2
kind: CiliumNodeConfig
metadata: {name: elsewhere, namespace: default}
spec: {nodeSelector: {}, defaults: {mtu: "1280"}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One of their own, for it is killed."""
    with api_server(tmp_path_factory.mktemp("build")) as running:
        yield running


def build(
    server: ApiServer, dest: Path, node: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as the init container of a node does."""
    command = (sys.executable, "-m", "axoneme.core.cli", "build-config", "--dest", str(dest))
    return subprocess.run(
        [*command, "--k8s-kubeconfig-path", str(server.kubeconfig), *arguments],
        env={**os.environ, "K8S_NODE_NAME": node, "CILIUM_K8S_NAMESPACE": "kube-system"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def keys(dest: Path) -> dict[str, str]:
    """What a reader finds."""
    return {p.name: p.read_text() for p in dest.iterdir() if not p.name.startswith(".")}


def install(server: ApiServer) -> None:
    """The definition, as an operator does."""
    import asyncio

    from axoneme.core.k8s.access import open_access
    from axoneme.core.k8s.definitions.install import install as apply
    from axoneme.core.k8s.store import KubernetesStore

    async def work() -> None:
        store = KubernetesStore(await open_access(str(server.kubeconfig)))
        await apply(store)
        await store.close()

    asyncio.run(work())


def test_a_node_gets_what_its_labels_choose(server: ApiServer, tmp_path: Path) -> None:
    """From a cluster without anything to a node's own values; a bad object changes nothing."""
    dest = tmp_path / "config"
    done = build(server, dest, "gpu")
    assert done.returncode == 1
    assert "there is no ConfigMap kube-system/axoneme-config" in done.stderr
    server.kubectl("apply", "-f", "-", text=CONFIG_MAP)
    done = build(server, dest, "gpu")  # neither the kind nor the Node are there yet
    assert done.returncode == 0, done.stderr
    assert keys(dest) == {"mtu": "1500", "debug": "false", "routing-mode": "native"}

    install(server)
    server.kubectl("apply", "-f", "-", text=NODES + "---" + NODE_CONFIGS)
    done = build(server, dest, "gpu")
    assert done.returncode == 0, done.stderr
    assert keys(dest) == {
        "mtu": "9000",
        "debug": "true",
        "routing-mode": "native",
        "enable-ipv7": "true",
    }
    origin = "CiliumNodeConfig kube-system/10-zone"
    assert f"unknown configuration key enable-ipv7 ({origin})" in done.stderr
    assert "did you mean enable-ipv6?" in done.stderr
    counts = done.stdout.strip().removeprefix(f"4 keys in {dest}: ").split(", ")
    assert sorted(counts) == [
        "1 of CiliumNodeConfig kube-system/20-gpu",
        "1 of ConfigMap kube-system/axoneme-config",
        f"2 of {origin}",
    ]
    assert build(server, tmp_path / "plain", "plain").returncode == 0
    assert keys(tmp_path / "plain")["mtu"] == "1500"

    done = build(server, dest, "nobody")
    assert done.returncode == 1 and "there is no Node nobody" in done.stderr

    patch = '{"spec": {"defaults": {"mtu": "many"}}}'
    what = ("ciliumnodeconfig", "20-gpu", "-n", "kube-system", "--type", "merge", "-p")
    server.kubectl("patch", *what, patch)
    before = keys(dest)
    done = build(server, dest, "gpu")
    assert done.returncode == 1
    assert "key mtu (CiliumNodeConfig kube-system/20-gpu): bad value 'many'" in done.stderr
    server.kubectl("patch", *what, '{"spec": {"defaults": {"mtu": null, "../x": "1"}}}')
    done = build(server, dest, "gpu")
    assert done.returncode == 1
    assert "CiliumNodeConfig kube-system/20-gpu: spec.defaults: bad key '../x'" in done.stderr
    assert keys(dest) == before
    server.kubectl("delete", "ciliumnodeconfig", "20-gpu", "-n", "kube-system")


def test_without_its_server_a_node_goes_on_with_what_it_has(
    server: ApiServer, tmp_path: Path
) -> None:
    """And without that it waits for the server, which comes back."""
    server.kubectl("apply", "-f", "-", text=CONFIG_MAP + "---" + NODES)
    assert build(server, tmp_path / "old", "plain").returncode == 0
    server.kill("kube-apiserver")
    try:
        done = build(server, tmp_path / "old", "plain", "--deadline", "1")
        assert done.returncode == 0, done.stderr
        assert "cannot be reached" in done.stderr
        assert "going on with the configuration of" in done.stderr
        assert keys(tmp_path / "old")["mtu"] == "1500"
        waiting = subprocess.Popen(
            [
                *(sys.executable, "-m", "axoneme.core.cli", "build-config", "--deadline", "1"),
                *("--dest", str(tmp_path / "new"), "--node-name", "plain"),
                *("--k8s-kubeconfig-path", str(server.kubeconfig)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        assert "trying again" in waiting.stderr.readline()
        assert waiting.poll() is None
    finally:
        server.start_api()
    assert waiting.wait(60) == 0
    waiting.stderr.close()
    assert keys(tmp_path / "new")["mtu"] == "1500"


def test_a_server_that_refuses_is_an_error_at_once(server: ApiServer, tmp_path: Path) -> None:
    """Without the right to read it is nothing that waiting would change."""
    kubeconfig = tmp_path / "kubeconfig"
    server.write_kubeconfig(kubeconfig, "nobodys-token")
    done = build(server, tmp_path / "new", "plain", "--k8s-kubeconfig-path", str(kubeconfig))
    assert done.returncode == 1 and "the API server refuses" in done.stderr
    assert not (tmp_path / "new").exists()
