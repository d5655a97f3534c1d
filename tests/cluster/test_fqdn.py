"""Policy by name, live: a DNS server and a web server outside the cluster, one allowed pattern."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import NAME, Cluster

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

SPACE = f"axo-{NAME}-dns"
DNS = {4: "172.18.0.53", 6: "fd00:18::53"}
WEB = {4: "198.51.100.1", 6: "2001:db8:51::1"}
"""The lab's world answers there by HTTP."""
SERVER = Path(__file__).with_name("dns_server.py")
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: cli, namespace: default, labels: {app: cli}}
spec: {nodeName: node1, containers: [{name: c, image: x}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: by-name, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: cli}}
  egress:
  - toEntities: [world]
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules: {dns: [{matchPattern: "*.example.test"}]}
  - toFQDNs: [{matchPattern: "web*.example.test"}]
    toPorts: [{ports: [{port: "80", protocol: TCP}]}]
"""
ASK = """
import sys, dns.message, dns.query, dns.rcode
server, name, kind, way = sys.argv[1:5]
query = dns.message.make_query(name, kind)
answer = getattr(dns.query, way)(query, server, timeout=4)
print(dns.rcode.to_text(answer.rcode()), *[str(r) for s in answer.answer for r in s])
"""


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Cluster]:
    """Two nodes, one pod, a name server on the underlay."""
    cluster.up()
    underlay = f"axo-{NAME}-underlay"
    ip("netns", "add", SPACE)
    server = None
    try:
        ip("-n", SPACE, "link", "set", "lo", "up")
        ip(*("link", "add", "axotd0", "netns", SPACE, "type", "veth"),
           *("peer", "name", "axotd1", "netns", underlay))  # fmt: skip
        ip("-n", SPACE, "addr", "add", f"{DNS[4]}/24", "dev", "axotd0")
        ip("-n", SPACE, "addr", "add", f"{DNS[6]}/64", "dev", "axotd0", "nodad")
        ip("-n", SPACE, "link", "set", "axotd0", "up")
        ip("-n", underlay, "link", "set", "axotd1", "master", "br0", "up")
        names = f"web.example.test={WEB[4]},{WEB[6]}"
        more = (f"web2.example.test={WEB[4]},{WEB[6]}", f"other.example.test={WEB[4]}",
                f"evil.test={WEB[4]}")  # fmt: skip
        command = [sys.executable, str(SERVER), *DNS.values(), "--", names, *more]
        server = subprocess.Popen(
            ["ip", "netns", "exec", SPACE, *command], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        cluster.apply(MANIFEST)
        yield cluster
    finally:
        if server is not None:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()
        ip("netns", "del", SPACE, check=False)


def ask(lab: Cluster, name: str, family: int = 4, way: str = "udp") -> str:
    """What the pod is told of a name by the server of a family."""
    kind = "A" if family == 4 else "AAAA"
    command = (sys.executable, "-c", ASK, DNS[family], name, kind, way)
    done = lab.run("lab", "exec", "default/cli", "--", *command, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def fetch(lab: Cluster, family: int) -> bool:
    """Whether the pod reaches the web server."""
    host = WEB[4] if family == 4 else f"[{WEB[6]}]"
    command = ("curl", "-s", "-m", "2", f"http://{host}/")
    return lab.run("lab", "exec", "default/cli", "--", *command, check=False).returncode == 0


@pytest.mark.parametrize("family", [4, 6])
def test_only_what_was_looked_up_by_an_allowed_name(lab: Cluster, family: int) -> None:
    """No address before the name; the right name opens its address and nothing else."""
    assert not fetch(lab, family)
    assert ask(lab, "evil.test", family) == "REFUSED"
    assert ask(lab, "a.b.example.test", family) == "REFUSED"
    if family == 4:
        assert ask(lab, "other.example.test") == f"NOERROR {WEB[4]}"
        assert not fetch(lab, 4)
    assert ask(lab, "Web.Example.test", family) == f"NOERROR {WEB[family]}"
    assert fetch(lab, family)


@pytest.mark.parametrize("family", [4, 6])
def test_the_same_by_tcp(lab: Cluster, family: int) -> None:
    """A query in a stream is judged as one in a datagram."""
    assert ask(lab, "evil.test", family, "tcp") == "REFUSED"
    assert ask(lab, "web.example.test", family, "tcp") == f"NOERROR {WEB[family]}"


def test_the_refusing_answer_follows_its_key(lab: Cluster) -> None:
    """While agent and proxy run; there and back."""
    key = lab.root / "nodes" / "node1" / "config" / "tofqdns-dns-reject-response-code"
    for wanted in ("NXDOMAIN", "REFUSED"):
        if wanted == "NXDOMAIN":
            key.write_text("nameError")
        else:
            key.unlink()
        deadline = time.monotonic() + 20
        while ask(lab, "evil.test") != wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        assert ask(lab, "evil.test") == wanted
    assert lab.call("node1", "config", "drift") == []


def test_the_agent_may_be_away(lab: Cluster) -> None:
    """Killed: look-ups and what they have opened go on; new names wait for it, and come."""
    assert ask(lab, "web.example.test").startswith("NOERROR")
    lab.agent("node1", "kill")
    assert ask(lab, "web.example.test") == f"NOERROR {WEB[4]}"
    assert ask(lab, "evil.test") == "REFUSED"
    assert fetch(lab, 4)
    assert ask(lab, "web2.example.test", 6) == f"NOERROR {WEB[6]}"
    lab.agent("node1", "start")
    deadline = time.monotonic() + 20
    names: set[str] = set()
    while "web2.example.test" not in names and time.monotonic() < deadline:
        time.sleep(0.2)
        names = {row["name"] for row in lab.call("node1", "fqdn", "cache", "list")}
    assert {"web.example.test", "web2.example.test"} <= names
    assert fetch(lab, 4) and fetch(lab, 6)


def test_a_worker_that_dies_is_replaced(lab: Cluster) -> None:
    """Without the agent's help; what is asked meanwhile waits or is asked again."""
    found = subprocess.run(
        ["pgrep", "-f", f'"fds".*{NAME}|{NAME}.*"fds"'], capture_output=True, text=True, check=False
    ).stdout.split()
    assert found
    for pid in found:
        subprocess.run(["kill", "-9", pid], check=False)
    deadline = time.monotonic() + 15
    answer = ""
    while not answer.startswith("NOERROR") and time.monotonic() < deadline:
        answer = ask(lab, "web.example.test")
    assert answer == f"NOERROR {WEB[4]}"
    assert ask(lab, "evil.test") == "REFUSED"
