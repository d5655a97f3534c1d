"""Modes in a lab: audit mode, by configuration and live, and when policy is enforced at all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: audit, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: audit, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: nobody, namespace: audit}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: [{fromEndpoints: [{matchLabels: {app: other}}]}]
"""
ECHO = """
import socket, sys
with socket.create_server(("::", 7001), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    print("ready", flush=True)
    for _ in range(2):
        flow, _ = server.accept()
        import threading
        def echo(flow=flow):
            while data := flow.recv(100):
                flow.sendall(data)
        threading.Thread(target=echo).start()
"""
TALK = """
import socket, sys
flow = socket.create_connection((sys.argv[1], 7001), timeout=3)
for line in sys.stdin:
    flow.settimeout(3)
    try:
        flow.sendall(b"x")
        print("answered" if flow.recv(100) else "closed", flush=True)
    except OSError as error:
        print("cut", type(error).__name__, flush=True)
"""


@pytest.fixture(scope="module")
def lab(cluster: Any) -> Iterator[Any]:
    """Two nodes in audit mode, and a server that no rule lets anybody reach."""
    cluster.up(2, policy_audit_mode="true")
    cluster.apply(MANIFEST)
    yield cluster
    cluster.down()


def ask(flow: subprocess.Popen[str]) -> str:
    """Send one byte over an open flow; what became of it."""
    assert flow.stdin is not None and flow.stdout is not None
    flow.stdin.write("go\n")
    flow.stdin.flush()
    return flow.stdout.readline().split()[0]


def in_pod(lab: Any, pod: str, program: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python program in a pod's namespace."""
    command = ("lab", "exec", pod, "--", sys.executable, "-uc", program, *arguments)
    started: subprocess.Popen[str] = lab.start(*command, stdin=subprocess.PIPE)
    return started


def test_a_flow_that_only_audit_mode_let_through_ends_with_it(lab: Any) -> None:
    """Refused flows pass, over both families, and stop when the agent starts without the mode."""
    addresses = lab.addresses("audit/server")
    server = in_pod(lab, "audit/server", ECHO)
    flows: dict[int, subprocess.Popen[str]] = {}
    try:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        flows = {v: in_pod(lab, "audit/client", TALK, a) for v, a in addresses.items()}
        assert {v: ask(f) for v, f in flows.items()} == {4: "answered", 6: "answered"}
        assert lab.probe("audit/client", "audit/server")["verdict"] == "allowed"
        lab.agent("node2", "restart")
        assert {v: ask(f) for v, f in flows.items()} == {4: "answered", 6: "answered"}
        lab.agent("node2", "restart", "--config", "policy-audit-mode=false")
        time.sleep(0.5)
        assert {v: ask(f) for v, f in flows.items()} == {4: "cut", 6: "cut"}
        assert lab.probe("audit/client", "audit/server")["verdict"] == "denied"
    finally:
        for process in (*flows.values(), server):
            process.kill()
            process.communicate()


def set_option(lab: Any, text: str, *words: str) -> None:
    lab.run(*(words or ("config",)), text, "--node", "node2")


def test_audit_mode_of_one_endpoint(lab: Any) -> None:
    """At once, told as AUDIT, seen in the list, kept over a restart; then it ends."""
    assert lab.probe("audit/client", "audit/server")["verdict"] == "denied"
    endpoint = ("endpoint", "config", "audit/server")
    set_option(lab, "PolicyAuditMode=Enabled", *endpoint)
    assert lab.probe("audit/client", "audit/server")["verdict"] == "allowed"
    listed = json.loads(lab.run("endpoint", "list", "--node", "node2", "-o", "json").stdout)
    found = {row["name"]: row["policy"]["ingress"] for row in listed}
    assert found["audit/server"] == "Disabled (Audit)"
    ends = ("--from", "audit/client", "--to", "audit/server", "--port", "8080/TCP")
    trace = lab.run("policy", "trace", *ends, "--node", "node2", "-o", "json", check=False).stdout
    assert json.loads(trace)["verdict"] == "audit"
    lab.agent("node2", "restart")
    assert lab.probe("audit/client", "audit/server")["verdict"] == "allowed"
    set_option(lab, "PolicyAuditMode=Disabled", *endpoint)
    assert lab.probe("audit/client", "audit/server")["verdict"] == "denied"


def test_the_mode_changes_while_the_agent_runs(lab: Any) -> None:
    """Never, always and default; a bad word changes nothing."""
    set_option(lab, "PolicyEnforcement=never")
    assert lab.probe("audit/client", "audit/server")["verdict"] == "allowed"
    done = lab.run("config", "PolicyEnforcement=sometimes", "--node", "node2", check=False)
    assert done.returncode != 0 and "default, always, never" in done.stderr
    assert "Mode: never" in lab.run("status", "--node", "node2").stdout
    set_option(lab, "PolicyEnforcement=default")
    assert lab.probe("audit/client", "audit/server")["verdict"] == "denied"
    assert lab.probe("audit/server", "audit/client")["verdict"] == "allowed"
    set_option(lab, "PolicyEnforcement=always")
    assert lab.probe("audit/server", "audit/client")["verdict"] == "denied"
    options = json.loads(lab.run("config", "--live", "--node", "node2", "-o", "json").stdout)
    assert {o["name"]: o["value"] for o in options}["PolicyEnforcement"] == "always"
    lab.agent("node2", "restart")
    assert lab.probe("audit/server", "audit/client")["verdict"] == "allowed"
