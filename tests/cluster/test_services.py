"""Services in a cluster: whom backends see, backends that go, an agent that dies, sessions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.modes import LabRun, look, problem

pytestmark = [pytest.mark.root, pytest.mark.lab]

VIP = "10.96.100.1"


@pytest.mark.parametrize(
    ("mode", "routing", "xdp"),
    [("snat", "tunnel", ""), ("dsr", "native", "best-effort"), ("snat", "native", "native")],
)
def test_backends_see_what_the_mode_promises(mode: str, routing: str, xdp: str) -> None:
    """Every kind of address, from a pod, a node and outside, both families."""
    config = {"bpf-lb-acceleration": xdp} if xdp else {}
    with LabRun(f"axm{os.getpid() % 100000}", mode, routing, nodes=2, config=config) as lab:
        shown = lab.run("status", "--node", "node1", "--verbose")
        assert ("[eth0]" if xdp else "Disabled") in shown.partition("XDP Acceleration:")[2]
        wrong = {f"{s.family} {s.source} {s.target}": problem(s) for s in look(lab) if problem(s)}
        assert not wrong


@pytest.fixture(scope="module")
def lab() -> Iterator[LabRun]:
    """Two nodes with DSR for TCP through the tunnel; everything of the manifest."""
    with LabRun(f"axs{os.getpid() % 100000}", "hybrid", "tunnel", nodes=2) as running:
        yield running


HOLD = """
import select, socket, sys, time
count, family = int(sys.argv[1]), socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
socks = []
for _ in range(count):
    s = socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=5)
    socks.append(s)
print("ready", flush=True)
sys.stdin.readline()
bad = 0
for s in socks:
    try:
        s.settimeout(5)
        s.sendall(b"GET /x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        if not s.recv(4096).startswith(b"HTTP/1.1 200"):
            bad += 1
    except OSError:
        bad += 1
print(bad, flush=True)
"""


def hold(lab: LabRun, where: tuple[str, ...], count: int, host: str, port: int) -> Any:
    """Open connections and keep them until a line comes."""
    process = lab.start(*where, "--", "python3", "-c", HOLD, str(count), host, str(port))
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def broken(process: Any) -> int:
    """How many of the held connections answer no more."""
    out, _ = process.communicate("go\n", timeout=60)
    return int(out.strip().splitlines()[-1])


def many(count: int) -> str:
    """Selector-less services that nobody asks."""
    return "\n---\n".join(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"crowd-{n}", "namespace": "default"},
                "spec": {"ports": [{"port": 80}]},
            }
        )
        for n in range(count)
    )


def test_open_connections_survive_the_agent_and_a_thousand_services(
    lab: LabRun, tmp_path: Path
) -> None:
    """500 through every kind: an agent killed, one restarted, services added and removed."""
    held = [
        hold(lab, ("lab", "exec", "client"), 100, VIP, 80),
        hold(lab, ("lab", "node", "node1"), 100, VIP, 80),
        hold(lab, ("lab", "client", "ann"), 150, "172.18.0.2", 30080),
        hold(lab, ("lab", "client", "ann"), 150, "203.0.113.8", 80),
    ]
    file = tmp_path / "crowd.yaml"
    file.write_text(many(1000))
    lab.run("lab", "agent", "node1", "kill")
    lab.run("lab", "agent", "node1", "start")
    lab.run("lab", "apply", "-f", str(file))
    listed = json.loads(lab.run("service", "list", "--node", "node1", "-o", "json"))
    assert len(listed) > 2000
    lab.run("lab", "agent", "node2", "restart")
    lab.run("lab", "delete", "-f", str(file))
    assert [broken(p) for p in held] == [0, 0, 0, 0]


@pytest.mark.parametrize("host", ["172.18.0.2", "[fd00:18::2]"])
def test_a_large_upload_finds_its_size(lab: LabRun, host: str) -> None:
    """Full segments do not fit the tunnel to the other node: the client is told what does."""
    curl = ("curl", "-sg", "-m", "10", "--data-binary", "x" * 60_000, f"http://{host}:30080/")
    nodes = set()
    for _ in range(12):
        answer = json.loads(lab.run("lab", "client", "ann", "--", *curl))
        nodes.add(answer["node"])
    assert nodes == {"node1", "node2"}


def test_ids_outlive_the_agent(lab: LabRun) -> None:
    """Flows in the kernel hold them."""

    def ids() -> dict[str, int]:
        rows = json.loads(lab.run("service", "list", "--node", "node1", "-o", "json"))
        return {r["frontend"]: r["id"] for r in rows}

    before = ids()
    lab.run("lab", "agent", "node1", "restart")
    assert ids() == before


def pods(lab: LabRun) -> list[dict[str, Any]]:
    """Pods of the service."""
    rows = json.loads(lab.run("lab", "pods", "-o", "json"))
    return [r for r in rows if r["name"].startswith("web-")]


def peers_of(lab: LabRun) -> set[str]:
    """Backends that the service has on node1."""
    rows = json.loads(lab.run("service", "list", "--node", "node1", "-o", "json"))
    [row] = [r for r in rows if r["frontend"] == f"{VIP}:80/TCP"]
    return {b["address"] for b in row["backends"]}


def test_removing_a_backend_breaks_only_its_own(lab: LabRun) -> None:
    """Sockets of the removed one are ended, those of the others go on."""
    process = hold(lab, ("lab", "exec", "client"), 40, VIP, 80)
    outside = hold(lab, ("lab", "client", "ann"), 40, "172.18.0.2", 30080)
    before = {p["name"] for p in pods(lab)}
    text = Path("tests/cluster/manifests/services.yaml").read_text()
    lab.apply(text.replace("replicas: 4", "replicas: 3"))
    assert len({p["name"] for p in pods(lab)} & before) == 3
    gone, lost = broken(process), broken(outside)
    assert 0 < gone < 40
    assert 0 < lost < 40
    assert len(peers_of(lab)) == 3


HOST_PORT = """
apiVersion: v1
kind: Pod
metadata: {name: door, labels: {app: door}}
spec:
  nodeName: node1
  containers: [{name: c, ports: [{containerPort: 8080, hostPort: 8088}]}]
---
apiVersion: v1
kind: Service
metadata: {name: door}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 30999
  selector: {app: door}
  ports: [{port: 80, targetPort: 8080}]
"""


def test_host_ports_and_health_checks_are_answered(lab: LabRun) -> None:
    """The node's port leads to the pod, from outside and from the node; 503 without a backend."""
    lab.apply(HOST_PORT)
    curl = ["curl", "-s", "-g", "-m", "3", "--retry", "5", "--retry-connrefused"]
    for place, address, peer in (
        (("lab", "client", "ann"), "172.18.0.2", "172.18.0.210"),
        (("lab", "client", "ann"), "[fd00:18::2]", "fd00:18::d2"),
        (("lab", "node", "node1"), "127.0.0.1", "172.18.0.2"),
    ):
        answer = json.loads(lab.run(*place, "--", *curl, f"http://{address}:8088/"))
        assert (answer["pod"], answer["peer"]) == ("default/door", peer)
    status = ["-o", "/dev/null", "-w", "%{http_code}"]
    found = {
        node: lab.run("lab", "client", "ann", "--", *curl[:5], *status, f"http://{node}:30999/")
        for node in ("172.18.0.2", "172.18.0.3")
    }
    assert found == {"172.18.0.2": "200", "172.18.0.3": "503"}
