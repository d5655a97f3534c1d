"""Underlay, responder, prober and clean-up with real namespaces, without agents."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from axoneme.core.errors import LabError
from axoneme.core.lab import cleanup, netns, pods, probe, processes, targets, underlay
from axoneme.core.lab.model import Lab
from axoneme.core.lab.paths import LabPaths
from axoneme.core.store.sync import SyncStore

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes and the world, no agents."""
    paths = LabPaths(f"axot{os.getpid() % 100000}")
    paths.pods.mkdir(parents=True)
    paths.store.mkdir()
    try:
        nodes = underlay.make_nodes(2)
        underlay.build(paths, nodes)
        pods.start_world(paths)
        running = Lab(paths, nodes, {"a": "b"})
        running.save()
        yield running
    finally:
        assert cleanup.tear_down(paths) == []
        assert not cleanup.anything_there(paths)


def inside(lab: Lab, node: str, *command: str) -> str:
    """Output of a command on a node."""
    return subprocess.run(
        ["nsenter", f"--net={lab.paths.netns(node)}", "--", *command],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def attempt(lab: Lab, to: str, port: int = 0, proto: str = "", family: int = 4) -> probe.Result:
    """One probe from node1, with a short time-out."""
    store = SyncStore(lab.paths.store)
    order = probe.order(
        targets.source(lab, store, "node1"),
        targets.target(lab, store, to),
        family=family,
        port=port,
        proto=proto,
    )
    return probe.run(lab, [order], timeout=1.0)[0]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("to", "port", "proto"),
    [("node2", 0, "icmp"), ("world", 0, "icmp"), ("world", 80, "tcp"), ("world", 53, "udp")],
)
def test_nodes_reach_each_other_and_the_world(
    lab: Lab, to: str, port: int, proto: str, family: int
) -> None:
    """In both families, by every protocol, with a measured latency."""
    result = attempt(lab, to, port, proto, family)
    assert result.verdict == "allowed", result
    assert result.latency_ms is not None
    assert result.latency_ms > 0


def test_a_closed_port_is_an_error_and_says_why(lab: Lab) -> None:
    """Refused is neither allowed nor denied."""
    result = attempt(lab, "node2", 9, "tcp")
    assert (result.verdict, result.detail) == ("error", "connection refused")


def test_silence_is_a_denial_without_a_reason(lab: Lab) -> None:
    """Nothing answers and nobody reports a drop."""
    inside(lab, "node2", "iptables", "-I", "INPUT", "-p", "tcp", "--dport", "99", "-j", "DROP")
    result = attempt(lab, "node2", 99, "tcp")
    assert (result.verdict, result.drop_reason) == ("denied", None)


def test_the_responder_tells_pod_path_and_peer(lab: Lab) -> None:
    """Two requests on one connection, the answers as JSON, the peer as the responder saw it."""
    url = "http://[2001:db8:51::1]:8080"
    lines = inside(lab, "node1", "curl", "-s", f"{url}/a?b=c", f"{url}/d").splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["pod"], first["path"], second["path"]) == ("world", "/a?b=c", "/d")
    assert ip_address(first["peer"]) == lab.nodes[0].ipv6
    assert first["peer_port"] == second["peer_port"]


def test_the_responder_survives_nonsense(lab: Lab) -> None:
    """A bad request is answered with 400, a too large one is cut off, the next is served."""
    script = (
        "import socket\n"
        "s = socket.create_connection(('198.51.100.1', 80)); s.sendall(b'nonsense\\r\\n\\r\\n')\n"
        "assert s.recv(99).startswith(b'HTTP/1.1 400'), 'bad request'\n"
        "s = socket.create_connection(('198.51.100.1', 80)); s.sendall(b'x' * 70000)\n"
        "assert s.recv(99).startswith(b'HTTP/1.1 431'), 'too large'\n"
    )
    inside(lab, "node1", "python3", "-c", script)
    assert attempt(lab, "world", 80, "tcp").verdict == "allowed"


def test_no_link_leads_out_of_the_lab(lab: Lab) -> None:
    """The machine's own namespace gets no device and no route from a lab."""
    outside = subprocess.run(
        ["ip", "-br", "link"], check=True, capture_output=True, text=True
    ).stdout
    assert "node1" not in outside
    routes = subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout
    assert "172.18.0.0" not in routes


def test_processes_are_found_by_the_namespace_they_are_in(lab: Lab) -> None:
    """Also those whose pid nobody wrote down."""
    path = lab.paths.netns("node2")
    process = processes.spawn(path, ["sleep", "60"], log=lab.paths.root / "sleep.log")
    deadline = time.monotonic() + 5
    found: list[processes.Process] = []
    while not found and time.monotonic() < deadline:  # it enters the namespace by itself
        found = processes.inside(lab.paths, lambda name: name.endswith("node2"))
    assert [p.pid for p in found] == [process.pid]
    assert processes.kill_all(found) == []
    assert not process.alive


def test_a_lab_is_read_back_as_it_was_written(lab: Lab) -> None:
    """And a lab that is not there says how to start one."""
    assert Lab.load(lab.paths) == lab
    with pytest.raises(LabError, match="axoneme lab up"):
        Lab.load(LabPaths("axotnone"))


def test_a_number_that_was_given_out_again_is_not_our_process(lab: Lab) -> None:
    """A pid file names the start time too."""
    file = lab.paths.root / "some.pid"
    file.write_text(f"{os.getpid()}\n1\n")
    assert processes.from_pid_file(file) is None


def test_namespaces_that_are_not_ours_are_left_alone() -> None:
    """The prefix decides, to the letter."""
    default, other = LabPaths(), LabPaths("other")
    assert default.owns_netns("axo-lab-node1")
    assert default.owns_netns("axo-pod-demo-web")
    assert not default.owns_netns("axo-other-node1")
    assert not other.owns_netns("axo-pod-demo-web")
    assert not default.owns_netns("cni-123")
    assert netns.names() == sorted(netns.names())
