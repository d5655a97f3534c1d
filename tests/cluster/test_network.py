"""Between nodes and to the world, in each routing mode: sizes, fragments, errors, translation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

MODES: dict[str, dict[str, str]] = {
    "vxlan": {"routing_mode": "tunnel"},
    "vxlan over IPv6": {"routing_mode": "tunnel", "underlay_protocol": "ipv6"},
    "native": {"routing_mode": "native"},
}
MTU = {"vxlan": 1450, "vxlan over IPv6": 1430, "native": 1500}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
WORLD = {4: "198.51.100.1", 6: "2001:db8:51::1"}
NODE = {4: "172.18.0.2", 6: "fd00:18::2"}
OTHER_NODE = {4: "172.18.0.3", 6: "fd00:18::3"}
HEADERS = {4: 28, 6: 48}
"""Bytes of IP and ICMP headers in a ping."""

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: net}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: net}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: net}
spec: {nodeName: node2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
"""

CONNECT = """
import json, socket, sys, time
held = socket.create_connection((sys.argv[1], 80), 3, source_address=("", int(sys.argv[2])))
held.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
text = held.recv(65536).decode()
print(json.dumps(json.loads(text[text.index("{"):])), flush=True)
time.sleep(3)
"""

UDP_REFUSED = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(3)
s.bind(("", 1234))
s.connect((sys.argv[1], 9))
s.send(b"x")
try:
    s.recv(1)
except ConnectionRefusedError:
    print("refused")
"""


@pytest.fixture(scope="module", params=list(MODES))
def mode(request: pytest.FixtureRequest, cluster: Any) -> Iterator[str]:
    """A lab of two nodes in one routing mode, with two pods on one node and one on the other."""
    cluster.up(2, **MODES[request.param])
    cluster.apply(MANIFEST)
    yield request.param
    cluster.down()


def ping(cluster: Any, to: str, *options: str) -> str:
    """What ping says in pod ``net/one``."""
    command = ("lab", "exec", "net/one", "--", "ping", "-c", "1", "-W", "2", *options, to)
    done = cluster.run(*command, check=False)
    text: str = done.stdout + done.stderr
    return text


@FAMILIES
def test_everything_answers(cluster: Any, mode: str, family: int) -> None:
    """Pods, both nodes and the world; a datagram of several fragments too."""
    far = cluster.addresses("net/far")[family]
    for to in (far, NODE[family], OTHER_NODE[family], WORLD[family]):
        for size in ("56", "4000"):
            assert " 1 received" in ping(cluster, to, "-s", size), (to, size)


@FAMILIES
def test_a_full_packet_passes_and_one_byte_more_is_refused(
    cluster: Any, mode: str, family: int
) -> None:
    """The pod's MTU is exactly what the way to another node carries."""
    far = cluster.addresses("net/far")[family]
    room = MTU[mode] - HEADERS[family]
    assert " 1 received" in ping(cluster, far, "-M", "do", "-s", str(room))
    said = ping(cluster, far, "-M", "do", "-s", str(room + 1)).lower()
    assert f"mtu={MTU[mode]}" in said or f"mtu: {MTU[mode]}" in said, said


@FAMILIES
def test_the_node_is_a_hop(cluster: Any, mode: str, family: int) -> None:
    """A packet with one hop to live ends at the node, which says so."""
    far = cluster.addresses("net/far")[family]
    for to in (far, WORLD[family]):
        said = ping(cluster, to, "-t", "1")
        assert "exceeded" in said, said


@FAMILIES
def test_the_host_reaches_pods_of_both_nodes(cluster: Any, mode: str, family: int) -> None:
    """Through the tunnel as remote-node, or by the direct route."""
    for pod in ("net/one", "net/far"):
        address = cluster.addresses(pod)[family]
        done = cluster.run("lab", "node", "node1", "--", "ping", "-c", "1", "-W", "2", address)
        assert " 1 received" in done.stdout


@FAMILIES
def test_pods_see_each_other_and_the_world_sees_the_node(
    cluster: Any, mode: str, family: int
) -> None:
    """Two pods use one source port towards the world at the same time: both are served."""
    port = 40000 + family
    target = (WORLD[family], str(port))
    first = cluster.start("lab", "exec", "net/one", "--", "python3", "-c", CONNECT, *target)
    line = json.loads(first.stdout.readline())
    second = cluster.start("lab", "exec", "net/two", "--", "python3", "-c", CONNECT, *target)
    other = json.loads(second.stdout.readline())
    for process in (first, second):
        process.communicate(timeout=30)
    assert line["peer"] == other["peer"] == NODE[family]
    assert line["peer_port"] == port
    assert other["peer_port"] != port
    host = cluster.addresses("net/far")[family]
    seen = cluster.run(
        "lab", "exec", "net/one", "--", "curl", "-s", "-m", "3",
        f"http://{f'[{host}]' if family == 6 else host}:8080/",
    )  # fmt: skip
    assert json.loads(seen.stdout)["peer"] == cluster.addresses("net/one")[family]


@FAMILIES
def test_icmp_errors_of_the_world_reach_the_pod(cluster: Any, mode: str, family: int) -> None:
    """Port unreachable, about a datagram whose port was translated, arrives as the pod's own."""
    done = cluster.run(
        "lab", "exec", "net/one", "--", "python3", "-c", UDP_REFUSED, WORLD[family], check=False
    )
    assert done.stdout.strip() == "refused", done.stderr
    rows = cluster.call("node1", "bpf", "nat", "list")
    moved = [
        row for row in rows
        if row["direction"] == "OUT" and row["source"]["port"] == 1234
        and row["destination"]["address"] == WORLD[family]
    ]  # fmt: skip
    assert moved
    assert all(32768 <= row["translated"]["port"] <= 65535 for row in moved)


def test_nothing_was_dropped(cluster: Any, mode: str) -> None:
    """All of the above without a single drop on either node."""
    for node in ("node1", "node2"):
        rows = cluster.call(node, "bpf", "metrics", "list")
        assert [row for row in rows if row["reason"]] == []
