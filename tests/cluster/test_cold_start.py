"""Agents that are killed and started while the API server is away: nothing breaks or opens.

The server is a real one and is killed; load runs across two nodes all the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from axoneme.core.lab import cni
from axoneme.core.lab.model import Lab, PodRecord
from axoneme.core.lab.paths import LabPaths
from tests.cluster.kubernetes import OnKubernetes, eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.needs("kubernetes"),
]

LOAD = Path(__file__).parent / "load.py"
CONNECTIONS = 10
MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop, labels: {app: other}}
spec: {nodeName: node1, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server}}
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
kind: Service
metadata: {name: server, namespace: shop}
spec: {selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}, {port: "8081", protocol: UDP}]}]
"""


class Shop(OnKubernetes):
    """Two nodes, the server on the second one."""

    def __init__(self, name: str) -> None:
        super().__init__(name, MANIFEST)
        os.environ["AXONEME_LAB"] = name
        self.paths = LabPaths.current()
        self.service = ""

    def pod(self, name: str) -> PodRecord:
        """Of the lab's book."""
        return next(r for r in Lab.load(self.paths).pods() if r.full_name == f"shop/{name}")

    def answered(self, pod: str) -> bool:
        """Whether a new connection to the service is."""
        fetch = ("curl", "-s", "-m", "2", f"http://{self.service}/")
        return bool(self.run("lab", "exec", f"shop/{pod}", "--", *fetch, check=False))

    def verdicts(self) -> tuple[bool, bool]:
        """Of new connections from ``client`` and from ``other``."""
        return self.answered("client"), self.answered("other")

    def kernel(self, node: str) -> dict[str, Any]:
        """What decides about packets, as maps have it; without counters."""
        found: dict[str, Any] = {}
        for name in ("bpf ipcache list", "bpf lb list", "bpf policy get"):
            found[name] = json.loads(self.run(*name.split(), "--node", node, "-o", "json"))
        for identity in found["bpf policy get"]:
            for entry in identity["entries"]:
                for counter in ("bytes", "packets"):
                    entry.pop(counter, None)
        return found

    def gauge(self, name: str, node: str = "node1") -> float:
        """A metric without labels."""
        rows = json.loads(self.run("metrics", "list", name, "--node", node, "-o", "json"))
        return float(next(r["value"] for r in rows if r["name"] == f"axoneme_{name}"))

    def healthz(self, node: str = "node1") -> str:
        """Code and text of the probes' address."""
        curl = ("curl", "-s", "-w", "%{http_code}", "http://127.0.0.1:9879/healthz")
        return self.run("lab", "node", node, "--", *curl, check=False)

    @contextmanager
    def under_load(self) -> Iterator[dict[str, Any]]:
        """Load while the block runs; afterwards the dictionary holds what came of it."""
        addresses = [str(a) for a in self.pod("server").addresses]
        ports = ("8080", "8081", "9998", "9999", str(CONNECTIONS))
        command = (sys.executable, str(LOAD), *addresses, *ports)
        process = self.start("lab", "exec", "shop/client", "--", *command)
        result: dict[str, Any] = {}
        try:
            time.sleep(1.0)
            yield result
            result |= json.loads(process.communicate(timeout=60)[0])
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Without the API server, which is back afterwards."""
        self.kill_server()
        eventually(lambda: "store" in self.status("node2"), True)
        try:
            yield
        finally:
            self.start_server(self.paths)


@pytest.fixture(scope="module")
def lab() -> Iterator[Shop]:
    """Two nodes."""
    before = os.environ.get("AXONEME_LAB")
    with Shop(f"axcold{os.getpid() % 100000}") as running:
        assert isinstance(running, Shop)
        where = ("svc", "server", "-n", "shop", "-o", "jsonpath={.spec.clusterIP}")
        running.service = running.kubectl("get", *where)
        eventually(running.verdicts, (True, False))
        yield running
    if before is None:
        del os.environ["AXONEME_LAB"]
    else:
        os.environ["AXONEME_LAB"] = before


def assert_nothing_noticed(result: dict[str, Any]) -> None:
    """No connection broken, no packet lost, nothing denied let through."""
    assert (result["broken"], result["leaks"], result["lost"]) == ([], [], 0), result
    assert min(result["requests"], result["sent"], result["attempts"]) > 50, result


def test_agents_start_without_the_server_and_go_on(lab: Shop) -> None:
    """Under load: maps are what they were, status and probes tell, pods come and go, all is
    written when the server is back."""
    before = {node: lab.kernel(node) for node in ("node1", "node2")}
    ids = json.loads(lab.run("endpoint", "list", "--node", "node1", "-o", "json"))
    with lab.under_load() as result, lab.outage():
        lab.run("lab", "agent", "node1", "kill")
        lab.run("lab", "agent", "node1", "start")
        lab.run("lab", "agent", "node2", "restart")  # which ends in order, too
        for node in ("node1", "node2"):
            told = lab.status(node)["store"]
            assert "the API server https://172.18.0.1:6443 cannot be reached: Connection" in told
            assert "(since 2" in told and "working from what was saved of" in told
            assert lab.kernel(node) == before[node]
        assert (lab.gauge("store_away"), lab.gauge("store_recalled_kinds") > 5) == (1, True)
        text = lab.healthz()
        assert text.startswith("ok\n") and "cannot be reached" in text and text.endswith("200")
        found = json.loads(lab.run("endpoint", "list", "--node", "node1", "-o", "json"))
        keys = ("id", "identity", "ipv4", "ipv6", "labels", "state")
        assert [[e.get(k) for k in keys] for e in found] == [[e.get(k) for k in keys] for e in ids]
        assert lab.verdicts() == (True, False)
        _pods_come_and_go(lab)
    assert_nothing_noticed(result)
    eventually(lambda: (lab.status("node1"), lab.status("node2")), ({}, {}), 60)
    path = "jsonpath={.status.networking.addressing[0].ipv4}"
    eventually(
        lambda: lab.kubectl("get", "cep", "other", "-n", "shop", "-o", path),
        str(lab.pod("other").addresses[0]),
    )
    assert lab.verdicts() == (True, False)
    assert lab.healthz() == "ok\n200"
    assert (lab.gauge("store_away"), lab.gauge("store_recalled_kinds")) == (0, 0)


def _pods_come_and_go(lab: Shop) -> None:
    """DEL and ADD of a pod that is known; another one is told why not, without a wait."""
    other = lab.pod("other")
    cni.delete(lab.paths, other)
    assert "shop/other" not in lab.run("endpoint", "list", "--node", "node1")
    addresses = cni.add_once(lab.paths, other)
    assert str(addresses[0]).startswith(str(other.addresses[0]).rpartition(".")[0])
    assert addresses[0] != lab.pod("client").addresses[0]
    evolve(other, addresses=addresses).save(lab.paths)
    assert not lab.answered("other")
    ghost = evolve(other, name="ghost", container_id="f" * 64, uid="u-ghost")
    began = time.monotonic()
    with pytest.raises(cni.CniError, match=r"shop/ghost .*not known.*API server .*reached") as told:
        cni.add_once(lab.paths, ghost)
    assert told.value.code == cni.TRY_AGAIN_LATER
    assert time.monotonic() - began < 60  # a request's tries would take minutes
    cni.delete(lab.paths, ghost)


def test_what_changed_while_nobody_looked_is_caught_up_with(lab: Shop) -> None:
    """A label and a policy that changed before the outage, while the agent was away: unknown to
    it, so old verdicts hold until the server tells."""
    for node in ("node1", "node2"):
        lab.run("lab", "agent", node, "kill")
    lab.kubectl("label", "pod", "other", "-n", "shop", "--overwrite", "app=client")
    lab.kubectl("label", "pod", "client", "-n", "shop", "--overwrite", "app=former")
    lab.kill_server()
    try:
        for node in ("node1", "node2"):
            lab.run("lab", "agent", node, "start")
        assert "working from what was saved" in lab.status()["store"]
        assert lab.verdicts() == (True, False)
    finally:
        lab.start_server(lab.paths)
    eventually(lab.verdicts, (False, True), 60)
    eventually(lambda: (lab.status("node1"), lab.status("node2")), ({}, {}), 60)
    lab.kubectl("label", "pod", "other", "-n", "shop", "--overwrite", "app=other")
    lab.kubectl("label", "pod", "client", "-n", "shop", "--overwrite", "app=client")
    eventually(lab.verdicts, (True, False), 60)


def test_damaged_files_make_the_start_wait_and_change_nothing(lab: Shop) -> None:
    """Policies that cannot be read are not taken for none: the predecessor's programs go on."""
    with lab.under_load() as result:
        lab.run("lab", "agent", "node2", "kill")
        folder = lab.paths.node("node2") / "objects"
        (log,) = folder.glob("CiliumNetworkPolicy.*.log")
        log.write_bytes(b"0 nonsense\n")
        lab.kill_server()
        command = [sys.executable, "-m", "axoneme.core.cli", "lab", "agent", "node2", "start"]
        start = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            words = "ciliumnetworkpolicies saved are ignored"
            eventually(lambda: words in lab.status("node2").get("store", ""), True)
            waits = "reading the store, which has not told policies"
            eventually(lambda: waits in lab.status("node2")["agent"], True)
            text = lab.healthz("node2")
            assert "which has not told policies" in text and text.endswith("503")
            assert lab.gauge("store_away", "node2") == 1
            with pytest.raises(cni.CniError, match=r"not ready.*cannot be reached") as told:
                cni.add_once(lab.paths, lab.pod("server"))
            assert told.value.code == cni.TRY_AGAIN_LATER
            assert lab.verdicts() == (True, False)
        finally:
            lab.start_server(lab.paths)
            said = start.communicate(timeout=90)[0]
        assert start.returncode == 0, said
    assert_nothing_noticed(result)
    eventually(lambda: lab.status("node2"), {}, 60)
    assert lab.verdicts() == (True, False)
