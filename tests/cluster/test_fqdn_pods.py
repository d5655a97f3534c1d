"""Policy by name where the name servers are pods: on the client's node, and on another one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import Cluster

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

SERVER = Path(__file__).with_name("dns_server.py")
WEB = {4: "198.51.100.1", 6: "2001:db8:51::1"}
"""The lab's world answers there by HTTP."""
MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: names}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: names, labels: {k8s-app: dns}}
spec: {nodeName: node1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: names, labels: {k8s-app: dns}}
spec: {nodeName: node2, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cli, namespace: default, labels: {app: cli}}
spec: {nodeName: node1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: default, labels: {app: plain}}
spec: {nodeName: node1, containers: [{name: c, image: x}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: by-name, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: cli}}
  egress:
  - toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: names, k8s-app: dns}}]
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules: {dns: [{matchPattern: "*.example.test"}]}
  - toFQDNs: [{matchPattern: "web*.example.test"}]
    toPorts: [{ports: [{port: "80", protocol: TCP}]}]
"""
INGRESS = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: who-may-ask, namespace: names}
spec:
  endpointSelector: {matchLabels: {k8s-app: dns}}
  ingress:
  - fromEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: default, app: cli}}]
    toPorts: [{ports: [{port: "53", protocol: ANY}]}]
"""
ASK = """
import sys, dns.message, dns.query, dns.rcode
server, name, kind, way = sys.argv[1:5]
query = dns.message.make_query(name, kind)
answer = getattr(dns.query, way)(query, server, timeout=4)
print(dns.rcode.to_text(answer.rcode()), *[str(r) for s in answer.answer for r in s])
"""


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Cluster]:
    """Two nodes, a name server on each, two clients."""
    cluster.up()
    cluster.apply(MANIFEST)
    servers = []
    try:
        for pod in ("names/near", "names/far"):
            addresses = cluster.addresses(pod).values()
            names = f"web.example.test={WEB[4]},{WEB[6]}"
            more = (f"web2.example.test={WEB[4]},{WEB[6]}", f"evil.test={WEB[4]},{WEB[6]}")
            command = (sys.executable, str(SERVER), *addresses, "--", names, *more)
            server = cluster.start("lab", "exec", pod, "--", *command)
            servers.append(server)
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
        yield cluster
    finally:
        for server in servers:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()
        cluster.down()


def ask(
    lab: Cluster, server: str, name: str, family: int, way: str = "udp", client: str = "cli"
) -> str:
    """What a pod is told of a name by the server in a pod."""
    kind = "A" if family == 4 else "AAAA"
    address = lab.addresses(f"names/{server}")[family]
    command = (sys.executable, "-c", ASK, address, name, kind, way)
    done: subprocess.CompletedProcess[str] = lab.run(
        "lab", "exec", f"default/{client}", "--", *command, check=False
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def fetch(lab: Cluster, family: int) -> bool:
    """Whether the pod reaches the web server."""
    host = WEB[4] if family == 4 else f"[{WEB[6]}]"
    command = ("curl", "-s", "-m", "2", f"http://{host}/")
    return lab.run("lab", "exec", "default/cli", "--", *command, check=False).returncode == 0


@pytest.mark.parametrize("way", ["udp", "tcp"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("server", ["near", "far"])
def test_names_from_a_pod(lab: Cluster, server: str, family: int, way: str) -> None:
    """The proxy asks a pod as it asks anybody; what it may not be asked is refused."""
    assert ask(lab, server, "evil.test", family, way) == "REFUSED"
    assert ask(lab, server, "web.example.test", family, way) == f"NOERROR {WEB[family]}"
    assert fetch(lab, family)
    assert ask(lab, server, "evil.test", family, way, "plain") == f"NOERROR {WEB[family]}"


def test_a_flow_that_was_plain_before(lab: Cluster) -> None:
    """A redirect that comes later catches who has asked before, and what stays plain goes on."""
    late = (
        MANIFEST.rpartition("---")[2].replace("by-name", "late").replace("app: cli", "app: plain")
    )
    assert ask(lab, "near", "evil.test", 4, client="plain").startswith("NOERROR")
    lab.apply(late)
    assert ask(lab, "near", "evil.test", 4, client="plain") == "REFUSED"
    assert ask(lab, "far", "evil.test", 6, client="plain") == "REFUSED"
    lab.delete(late)
    assert ask(lab, "near", "evil.test", 4, client="plain").startswith("NOERROR")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("server", ["near", "far"])
def test_the_servers_policy_knows_who_asks(lab: Cluster, server: str, family: int) -> None:
    """The server sees the client, not the node that asks for it: its own ingress policy holds."""
    lab.apply(INGRESS)
    try:
        assert ask(lab, server, "web2.example.test", family) == f"NOERROR {WEB[family]}"
        assert ask(lab, server, "web2.example.test", family, "tcp") == f"NOERROR {WEB[family]}"
        assert not ask(lab, server, "web2.example.test", family, client="plain").startswith("NO")
    finally:
        lab.delete(INGRESS)
