"""The lab's own contract: commands, exit codes, JSON, faults, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.serial, pytest.mark.slow]

PODS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: c
          ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c}]}
---
apiVersion: example.org/v1
kind: Rocket
metadata: {name: apollo}
"""
COMMAND = """
apiVersion: v1
kind: Pod
metadata:
  name: custom
  annotations: {lab.axoneme.io/command: "python3 -m http.server 8000 --bind ::"}
spec: {containers: [{name: c, ports: [{containerPort: 8000}]}]}
"""


@pytest.fixture(scope="module")
def lab(cluster: Any) -> Iterator[Any]:
    """Two nodes, a deployment and a client."""
    cluster.up(2)
    done = cluster.apply(PODS)
    assert "Rocket" in done.stderr
    assert "warning" in done.stderr
    yield cluster
    cluster.down()


def test_a_second_up_is_an_error_that_says_how_to_go_on(lab: Any) -> None:
    """And it leaves the first lab alone."""
    done = lab.run("lab", "up", check=False)
    assert done.returncode == 1
    assert "lab down" in done.stderr
    assert len(lab.pods()) == 3


def test_pods_have_the_promised_keys(lab: Any) -> None:
    """``lab pods -o json`` is a list of these and nothing else."""
    for pod in lab.pods():
        keys = {"namespace", "name", "node", "addresses", "identity", "state"}
        assert pod.keys() == keys
    assert {p["node"] for p in lab.pods()} == {"node1", "node2"}


def test_probe_has_the_promised_keys(lab: Any) -> None:
    """For a pod, a node, an address and the world, by each protocol."""
    web = lab.pod("demo/web")
    for target, options in (
        (web, ("--port", "8080")),
        (web, ("--port", "5353", "--proto", "udp")),
        (web, ("--proto", "icmp")),
        ("node2", ("--proto", "icmp")),
        ("node2", ("--proto", "icmp", "--family", "6")),
        (lab.addresses(web)[6], ("--port", "8080")),
        ("world", ("--port", "80", "--family", "4")),
        ("2001:db8:51::1", ("--port", "80")),
    ):
        result = lab.probe("client", target, *options)
        assert result.keys() == {"verdict", "latency_ms", "drop_reason"}
        assert result["verdict"] == "allowed", (target, options, result)
        assert result["latency_ms"] > 0
    assert lab.probe("client", web, "--port", "9")["verdict"] == "error"


def test_exec_gives_the_exit_code_and_the_streams_of_the_command(lab: Any) -> None:
    """In the pod's network namespace, with the machine's own files."""
    assert lab.run("lab", "exec", "client", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    web = lab.pod("demo/web")
    address = lab.addresses(web)[4]
    answer = lab.run(
        "lab", "exec", "default/client", "--", "curl", "-s", f"http://{address}:8080/x"
    )
    body = json.loads(answer.stdout)
    assert body["pod"] == web
    assert body["path"] == "/x"
    assert body["peer"] == lab.addresses("default/client")[4]
    shown = lab.run("lab", "exec", "client", "--", "ip", "-br", "link").stdout
    assert "eth0" in shown
    assert lab.run("lab", "exec", "nobody", "--", "true", check=False).returncode == 1
    assert lab.run("lab", "exec", "client", "--", "no-such-command", check=False).returncode == 1


def test_node_runs_on_the_node(lab: Any) -> None:
    """The node sees its underlay device; an unknown node is an error."""
    shown = lab.run("lab", "node", "node2", "--", "ip", "-br", "address", "show", "eth0").stdout
    assert "172.18.0.3" in shown
    done = lab.run("lab", "node", "node9", "--", "true", check=False)
    assert (done.returncode, "node1" in done.stderr) == (1, True)


def test_a_command_annotation_replaces_the_responder(lab: Any) -> None:
    """The pod runs it, and deleting the pod ends it."""
    lab.apply(COMMAND)
    code = ("--retry", "20", "--retry-connrefused", "--retry-delay", "1", "-s", "-o", "/dev/null")
    address = lab.addresses("default/custom")[6]
    lab.run("lab", "exec", "client", "--", "curl", *code, f"http://[{address}]:8000/")
    lab.delete(COMMAND)
    assert "custom" not in {p["name"] for p in lab.pods()}
    running = subprocess.run(["pgrep", "-f", "http.server 8000"], capture_output=True, check=False)
    assert running.stdout == b""


BAD = {
    "port": (
        "kind: CiliumNetworkPolicy, apiVersion: cilium.io/v2, metadata: {name: p}, spec: "
        "{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: '70000', protocol: TCP}]}]}]}",
        ["70000", "ports"],
    ),
    "selector": (
        "kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {name: p}, spec: "
        "{podSelector: {matchExpressions: [{key: a, operator: Near, values: [b]}]}}",
        ["Near", "podSelector"],
    ),
    "protocol": (
        "kind: Pod, apiVersion: v1, metadata: {name: p}, spec: "
        "{containers: [{name: c, ports: [{containerPort: 1, protocol: GRE}]}]}",
        ["GRE", "protocol"],
    ),
    "duplicate": (
        "kind: Pod, apiVersion: v1, metadata: {name: fine}, spec: {containers: [{name: c}]}",
        ["fine", "already given"],
    ),
    "yaml": ("kind: [", ["bad YAML"]),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_bad_manifest_changes_nothing(lab: Any, case: str) -> None:
    """One line names file, document and field; the good document before it is not applied."""
    text, words = BAD[case]
    good = "{kind: Pod, apiVersion: v1, metadata: {name: fine}, spec: {containers: [{name: c}]}}"
    before = lab.pods()
    done = lab.apply(f"{good}\n---\n{{{text}}}\n", check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    for word in [".yaml", *words]:
        assert word in done.stderr, done.stderr
    assert lab.pods() == before


def test_a_bad_policy_in_the_store_hurts_nobody_else(lab: Any) -> None:
    """A file that somebody wrote by hand: its status says what is wrong, pods go on."""
    folder = lab.root / "store" / "NetworkPolicy"
    folder.mkdir(exist_ok=True)
    bad = folder / "demo.bad.yaml"
    bad.write_text(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        "metadata: {name: bad, namespace: demo}\n"
        "spec: {podSelector: {}, policyTypes: [Sideways]}\n"
    )
    (folder / "demo.half.yaml").write_text("apiVersion: networking.k8s.io/v1\nkind: Netw")
    try:
        web = lab.pod("demo/web")
        assert lab.probe("client", web, "--port", "8080")["verdict"] == "allowed"
        lab.apply(COMMAND)
        assert "custom" in {p["name"] for p in lab.pods() if p["state"] == "ready"}
        lab.delete(COMMAND)
    finally:
        for path in folder.glob("demo.*.yaml"):
            path.unlink()


def test_agent_faults_say_what_they_find(lab: Any) -> None:
    """Stopping twice and starting twice are errors; pods keep talking meanwhile."""
    web = lab.pod("demo/web")
    lab.agent("node1", "stop")
    assert lab.agent("node1", "stop", check=False).returncode == 1
    assert lab.probe("client", web, "--port", "8080")["verdict"] == "allowed"
    lab.agent("node1", "start")
    assert lab.agent("node1", "start", check=False).returncode == 1
    lab.agent("node1", "restart")
    assert lab.probe("client", web, "--port", "8080")["verdict"] == "allowed"


def test_pods_without_a_free_address_say_so_and_the_rest_goes_on(cluster: Any) -> None:
    """A pool of a few addresses: some pods run, the others name the pool, and recover."""
    cluster.down()
    cluster.up(1, cluster_pool_ipv4_cidr="10.244.0.0/28", cluster_pool_ipv4_mask_size="29")
    many = PODS.replace("replicas: 2", "replicas: 9")
    done = cluster.apply(many, check=False)
    assert done.returncode == 1
    assert "10.244.0" in done.stderr or "address" in done.stderr
    states = [p["state"] for p in cluster.pods()]
    assert states.count("ready") >= 4
    assert any(state != "ready" for state in states)
    web = next(p for p in cluster.pods() if p["state"] == "ready" and p["namespace"] == "demo")
    assert cluster.probe(f"demo/{web['name']}", "world", "--port", "80")["verdict"] == "allowed"
    cluster.apply(PODS)
    assert {p["state"] for p in cluster.pods()} == {"ready"}
    cluster.down()


def test_a_node_with_a_clashing_cidr_is_reported_and_others_go_on(cluster: Any) -> None:
    """A CiliumNode that claims a block of another node."""
    cluster.down()
    cluster.up(2)
    try:
        cidr = cluster.call("node1", "node", "list")
        taken = next(c for row in cidr for c in row["pod-cidrs"] if "." in c)
        cluster.apply(
            "apiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: intruder}\n"
            f"spec: {{addresses: [{{type: InternalIP, ip: 172.18.0.99}}], "
            f"ipam: {{podCIDRs: [{taken}]}}}}\n"
        )
        cluster.apply(PODS)
        rows = cluster.matrix("-n", "demo", "--proto", "icmp")
        assert {row["verdict"] for row in rows} == {"allowed"}
        log = (cluster.root / "nodes" / "operator" / "operator.log").read_text()
        assert "intruder" in log
    finally:
        cluster.down()


def test_a_bad_configuration_value_is_named_and_nothing_stays(
    cluster: Any, leftovers: Callable[[], list[str]]
) -> None:
    """Key, value and what is allowed, in one line."""
    cluster.down()
    done = cluster.run("lab", "up", "--config", "routing-mode=carrier-pigeon", check=False)
    assert done.returncode == 1
    for word in ("routing-mode", "carrier-pigeon", "native"):
        assert word in done.stderr
    assert leftovers() == []


def test_what_agents_complain_about_is_printed(cluster: Any) -> None:
    """An unknown key, with the nearest known one; a command that is not on this machine."""
    cluster.down()
    try:
        up = cluster.run("lab", "up", "--nodes", "1", "--config", "enable-polcy=never")
        assert "warning: node1: unknown configuration key enable-polcy" in up.stderr
        assert "did you mean enable-policy?" in up.stderr
        pod = COMMAND.replace("python3 ", "no-such-thing ")
        done = cluster.apply(pod, check=False)
        assert (done.returncode, "no command 'no-such-thing'" in done.stderr) == (1, True)
    finally:
        cluster.down()


def test_down_leaves_nothing_after_a_massacre(
    cluster: Any, leftovers: Callable[[], list[str]]
) -> None:
    """kill -9 of every process of the lab, lab.json gone too; a second down is fine."""
    cluster.down()
    cluster.up(2)
    cluster.apply(PODS)
    for kind in ("file", "pin", "process"):
        assert any(line.startswith(kind) for line in leftovers()), f"the test sees no {kind}"
    for name in ("node1", "node2", "operator"):
        pid = (cluster.root / "nodes" / name).glob("*.pid")
        os.kill(int(next(pid).read_text().split()[0]), signal.SIGKILL)
    (cluster.root / "lab.json").unlink()
    done = cluster.run("lab", "pods", check=False)
    assert (done.returncode, "lab down" in done.stderr) == (1, True)
    cluster.down()
    assert leftovers() == []
    cluster.down()


def test_the_demo_leaves_nothing(cluster: Any, leftovers: Callable[[], list[str]]) -> None:
    """Exit 0, allowed and denied pairs in both families, drops with reason, identity and name."""
    cluster.down()
    done = cluster.run("lab", "demo")
    assert "✓✓" in done.stdout
    assert "✗✗" in done.stdout
    drops = [line for line in done.stdout.splitlines() if "Policy denied" in line]
    for family in ("IPv4", "IPv6"):
        assert any(f"{family}" in line and "other/stranger" in line for line in drops), drops
    assert all("identity" in line for line in drops)
    assert leftovers() == []
