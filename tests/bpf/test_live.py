"""Two real pods on a real node: the programs at work in the kernel, not in a test run."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from axoneme.core.datapath.links import DEVICE_HOOKS, Link
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packets import EGRESS, INGRESS, PacketBench

pytestmark = [pytest.mark.root, pytest.mark.serial]
FAMILIES = pytest.mark.parametrize("version", [4, 6])

ROUTER = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
ADDRESS = {
    "a": {4: "10.244.1.11", 6: "fd00:10:244:1::11"},
    "b": {4: "10.244.1.12", 6: "fd00:10:244:1::12"},
}
IDENTITY = {"a": 1001, "b": 1002}
CLONE_NEWNET = 0x40000000

SERVE = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.create_server((sys.argv[1], 80), family=family)
print("ready", flush=True)
while True:
    c, peer = s.accept()
    c.sendall(c.recv(100).upper()); c.close()
"""
CALL = """
import socket, sys
with socket.create_connection((sys.argv[1], 80), timeout=3) as s:
    s.sendall(b"hello"); print(s.recv(100).decode())
"""
ECHO = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM); s.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(65535); s.sendto(data, peer)
"""
DATAGRAM = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(3); s.connect((sys.argv[1], 53))
s.send(b"x" * int(sys.argv[2])); print(len(s.recv(65535)))
"""


def ip(*words: str) -> None:
    """One ``ip`` command."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def within(namespace: str, action: Callable[[], Any]) -> Any:
    """Run ``action`` in a thread of its own inside a network namespace."""
    results: list[Any] = []

    def run() -> None:
        with Path("/run/netns", namespace).open() as handle:
            if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        results.append(action())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


@frozen
class Node:
    """The node's namespace, its pods', and the loaded programs."""

    bench: PacketBench
    name: str

    def namespace(self, pod: str) -> str:
        """Name of a pod's namespace."""
        return f"{self.name}{pod}"

    def run(self, where: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a pod (or, with ``""``, on the node)."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace(where), *words],
            check=False, capture_output=True, text=True, timeout=20,
        )  # fmt: skip

    def python(self, where: str, script: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a script in a pod."""
        return self.run(where, "/usr/bin/python3", "-ISE", "-c", script, *words)


def make_pod(node: str, pod: str, number: int) -> None:
    """A namespace with a veth pair, routed as the CNI does."""
    space, device = f"{node}{pod}", f"axot{pod}"
    ip("netns", "add", space)
    ip("link", "add", device, "address", f"02:00:00:00:02:{number:02x}", "netns", node,
       "type", "veth", "peer", "name", "eth0", "address", f"02:00:00:00:01:{number:02x}",
       "netns", space)  # fmt: skip
    ip("-n", node, "link", "set", device, "up")
    for link in ("lo", "eth0"):
        ip("-n", space, "link", "set", link, "up")
    for version, bits in ((4, "32"), (6, "128")):
        family = f"-{version}"
        address = ADDRESS[pod][version]
        extra = ["nodad"] if version == 6 else []
        ip(family, "-n", space, "addr", "add", f"{address}/{bits}", "dev", "eth0", *extra)
        ip(family, "-n", space, "route", "add", ROUTER[version], "dev", "eth0", "src", address)
        ip(family, "-n", space, "route", "add", "default", "via", ROUTER[version], "src", address)
        ip(family, "-n", node, "route", "add", f"{address}/{bits}", "dev", device)


@pytest.fixture(scope="module")
def node(compile_cache: Path, registry_of: Callable[..., DatapathRegistry]) -> Iterator[Node]:
    """A node with two pods and the programs attached."""
    name = f"axot-n{os.getpid()}"
    pins = Path(f"/sys/fs/bpf/axot-live-{os.getpid()}")
    registry = registry_of("responder", "source_check", "policy")
    bench = PacketBench(registry, cache_dir=compile_cache)
    links: list[Link] = []
    try:
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        for version, bits in ((4, "32"), (6, "128")):
            ip("-n", name, "addr", "add", f"{ROUTER[version]}/{bits}", "dev", "lo")
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", f"{key}=1"], check=True)
        for number, pod in ((11, "a"), (12, "b")):
            make_pod(name, pod, number)
            index = within(name, lambda pod=pod: __import__("socket").if_nametoindex(f"axot{pod}"))
            bench.endpoint(number, index, IDENTITY[pod], *ADDRESS[pod].values())
            bench.subject(IDENTITY[pod])
            for hook, program in (("tc-ingress", "from_container"), ("tc-egress", "to_container")):
                links.append(
                    within(
                        name,
                        lambda hook=hook, program=program, index=index, pod=pod: Link.create(
                            bench.loaded.programs[program],
                            index,
                            DEVICE_HOOKS[hook],
                            pins / f"{pod}-{hook}",
                        ),
                    )
                )
        bench.endpoint(0, 0, 1, *ROUTER.values(), flags=1)
        yield Node(bench, name)
    finally:
        for link in links:
            link.remove()
        for space in (f"{name}a", f"{name}b", name):
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
        bench.close()
        if pins.exists():
            pins.rmdir()


@pytest.fixture
def fresh(node: Node) -> Node:
    """No rules and no flows."""
    for identity in IDENTITY.values():
        entries = node.bench.subject(identity)
        entries.delete_batch([key for key, _ in entries.items()])
    for name in ("axo_ct4", "axo_ct6", "axo_ct_any4", "axo_ct_any6"):
        for key in list(node.bench.maps[name].keys()):
            node.bench.maps[name].delete(key)
    node.bench.events()
    return node


def let_a_call_b(node: Node) -> None:
    """a may call b on TCP 80, UDP 53 and echo; nothing else."""
    for proto, port in ((6, 80), (17, 53), (1, 8), (58, 128)):
        node.bench.rule(IDENTITY["a"], EGRESS, proto=proto, port=port)
        node.bench.rule(IDENTITY["b"], INGRESS, peer=IDENTITY["a"], proto=proto, port=port)


@pytest.fixture
def server(fresh: Node, request: pytest.FixtureRequest) -> Iterator[Node]:
    """A server in b: the script and the family come as the parameter."""
    script, version = request.param
    process = subprocess.Popen(
        ["ip", "netns", "exec", fresh.namespace("b"), "/usr/bin/python3", "-ISE", "-c", script,
         ADDRESS["b"][version]],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield fresh
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(
    ("server", "version"), [((SERVE, 4), 4), ((SERVE, 6), 6)], indirect=["server"]
)
def test_a_connection_needs_its_rules_and_no_more(server: Node, version: int) -> None:
    """Refused before, answered after; the other direction stays closed."""
    target = ADDRESS["b"][version]
    assert "timed out" in server.python("a", CALL, target).stderr
    let_a_call_b(server)
    done = server.python("a", CALL, target)
    assert (done.stdout.strip(), done.stderr) == ("HELLO", "")
    assert server.run("b", "ping", "-c1", "-W1", ADDRESS["a"][version]).returncode == 1


@pytest.mark.parametrize(
    ("server", "version"), [((ECHO, 4), 4), ((ECHO, 6), 6)], indirect=["server"]
)
def test_datagrams_pass_whole_and_in_fragments(server: Node, version: int) -> None:
    """A small one and one of three fragments, both ways."""
    let_a_call_b(server)
    for size in ("10", "3500"):
        done = server.python("a", DATAGRAM, ADDRESS["b"][version], size)
        assert (done.stdout.strip(), done.stderr) == (size, "")


@FAMILIES
def test_ping_between_pods(fresh: Node, version: int) -> None:
    """Answered through the responder's neighbour entries, with a TTL one smaller."""
    let_a_call_b(fresh)
    done = fresh.run("a", "ping", "-c1", "-W2", ADDRESS["b"][version])
    assert done.returncode == 0, done.stdout
    assert "ttl=63" in done.stdout


@FAMILIES
def test_a_closed_port_is_refused_at_once(fresh: Node, version: int) -> None:
    """The receiver's ICMP error comes back without a rule: connection refused, not a time-out."""
    let_a_call_b(fresh)
    done = fresh.python("a", DATAGRAM, ADDRESS["b"][version], "10")
    assert "ConnectionRefusedError" in done.stderr


@FAMILIES
def test_a_hop_limit_of_one_is_answered_by_the_node(fresh: Node, version: int) -> None:
    """What traceroute needs: time exceeded from the node, related to the request."""
    let_a_call_b(fresh)
    done = fresh.run("a", "ping", "-c1", "-W2", "-t1", ADDRESS["b"][version])
    assert ROUTER[version] in done.stdout.lower()
    assert "exceeded" in done.stdout.lower()


@FAMILIES
def test_pod_and_node_talk(fresh: Node, version: int) -> None:
    """The pod asks the node; the node asks the pod when a rule for the host lets it."""
    let_a_call_b(fresh)
    assert fresh.run("a", "ping", "-c1", "-W2", ROUTER[version]).returncode == 0
    command = ("ping", "-c1", "-W1", "-I", ROUTER[version], ADDRESS["b"][version])
    assert fresh.run("", *command).returncode == 1
    fresh.bench.rule(IDENTITY["b"], INGRESS, peer=1)
    assert fresh.run("", *command).returncode == 0


def test_neighbours_are_the_nodes_end_of_the_pair(fresh: Node) -> None:
    """ARP and neighbour discovery were answered with the host's MAC address."""
    let_a_call_b(fresh)
    for version in (4, 6):
        fresh.run("a", "ping", "-c1", "-W2", ADDRESS["b"][version])
        shown = fresh.run("a", "ip", f"-{version}", "neigh", "show", ROUTER[version]).stdout
        assert "02:00:00:00:02:0b" in shown
        assert "REACHABLE" in shown or "DELAY" in shown
