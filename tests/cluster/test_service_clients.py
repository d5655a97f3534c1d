"""Real clients through services: a database, datagrams, a stream, names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.services.modes import LabRun

pytestmark = [pytest.mark.root, pytest.mark.lab]

VIP = "10.96.100.1"


@pytest.fixture(scope="module")
def lab() -> Iterator[LabRun]:
    """Two nodes with DSR for TCP through the tunnel; everything of the manifest."""
    with LabRun(f"axc{os.getpid() % 100000}", "hybrid", "tunnel", nodes=2) as running:
        yield running


@contextmanager
def own_folder() -> Iterator[Path]:
    """Which another user can reach: pytest closes the way to its own at each start."""
    with tempfile.TemporaryDirectory(prefix="axot") as folder:
        yield Path(folder)


def test_database_sessions_survive_the_agent(lab: LabRun) -> None:
    """PostgreSQL by ClusterIP from a pod, by NodePort from outside: the agent is killed
    between two statements."""
    if not PSQL:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    with own_folder() as folder, postgres(lab, folder) as database:
        inside = database.session(("lab", "exec", "client"), DB, 5432)
        outside = database.session(("lab", "client", "ann"), "172.18.0.2", 30432)
        assert inside.ask("create table t(n int); insert into t values (1); select n from t") == "1"
        lab.run("lab", "agent", "node1", "kill")
        assert outside.ask("insert into t values (41); select sum(n) from t") == "42"
        assert inside.ask("select sum(n) from t") == "42"
        lab.run("lab", "agent", "node1", "start")
        assert inside.ask("select count(*) from t") == "2"
        assert outside.ask("select count(*) from t") == "2"


PSQL = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))), None)


class postgres:
    """A server in a pod, and sessions through the service."""

    def __init__(self, lab: LabRun, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self._processes: list[Any] = []

    def __enter__(self) -> postgres:
        assert PSQL is not None
        self.lab.apply(DATABASE)
        binaries = PSQL.parent
        data = self.folder / "data"
        subprocess.run(["chown", "-R", "postgres", str(self.folder)], check=True)
        for parent in (self.folder, *self.folder.parents):
            if parent.stat().st_uid == os.getuid() and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        subprocess.run(
            [*as_user, str(binaries / "initdb"), "-D", str(data), "-A", "trust"],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        (data / "pg_hba.conf").write_text("host all all all trust\n")
        self._processes.append(
            self.lab.start(
                "lab", "exec", "db", "--", *as_user, str(PSQL), "-D", str(data), "-h", "*",
                "-k", "", "-c", "fsync=off",
            )
        )  # fmt: skip
        return self

    def session(self, place: tuple[str, ...], host: str, port: int) -> Session:
        """A client's, once the server answers."""
        psql = ("psql", "-h", host, "-p", str(port), *PSQL_OPTIONS)
        for _ in range(100):
            probe = self.lab.run(*place, "--", *psql, "-c", "select 1", check=False)
            if probe.strip() == "1":
                break
            time.sleep(0.1)
        made = Session(self.lab.start(*place, "--", *psql))
        self._processes.append(made.process)
        return made

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.communicate(timeout=20)


PSQL_OPTIONS = ("-U", "postgres", "-Atq", "-v", "ON_ERROR_STOP=1", "postgres")


class Session:
    """One psql."""

    def __init__(self, process: Any) -> None:
        self.process = process

    def ask(self, statement: str) -> str:
        """The one line that a statement answers."""
        self.process.stdin.write(statement + ";\n")
        self.process.stdin.flush()
        return str(self.process.stdout.readline().strip())


DB = "10.96.100.2"
DATABASE = f"""
apiVersion: v1
kind: Pod
metadata: {{name: db, labels: {{app: db}}}}
spec: {{nodeName: node2, containers: [{{name: c}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: db}}
spec:
  clusterIP: {DB}
  clusterIPs: ["{DB}"]
  type: NodePort
  selector: {{app: db}}
  ports: [{{port: 5432, nodePort: 30432}}]
"""


UDP_ECHO = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
to = (sys.argv[1], int(sys.argv[2]))
good = 0
for n in range(30):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(3)
    if n % 2:
        s.connect(to)
        s.send(b"%d" % n)
        good += s.recv(100) == b"%d" % n and s.getpeername()[:2] == to
    else:
        s.sendto(b"%d" % n, to)
        data, peer = s.recvfrom(100)
        good += data == b"%d" % n and peer[:2] == to
print(good)
"""


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [
        (("lab", "exec", "client"), VIP, 53),
        (("lab", "exec", "client"), "fd00:10:96::100:1", 53),
        (("lab", "node", "node1"), VIP, 53),
        (("lab", "client", "ann"), "172.18.0.2", 30053),
        (("lab", "client", "ann"), "fd00:18::2", 30053),
    ],
)
def test_datagrams_are_echoed(lab: LabRun, place: tuple[str, ...], host: str, port: int) -> None:
    """Connected and unconnected sockets hear the service that they asked."""
    done = lab.run(*place, "--", "python3", "-c", UDP_ECHO, host, str(port))
    assert done.strip() == "30"


def test_a_stream_goes_through_a_service(lab: LabRun) -> None:
    """iperf3 through a ClusterIP and, from outside, through a NodePort."""
    lab.apply(
        """
apiVersion: v1
kind: Pod
metadata: {name: perf, labels: {app: perf}, annotations: {lab.axoneme.io/command: "iperf3 -s"}}
spec: {nodeName: node2, containers: [{name: c}]}
---
apiVersion: v1
kind: Service
metadata: {name: perf}
spec:
  type: NodePort
  clusterIP: 10.96.100.3
  clusterIPs: ["10.96.100.3"]
  selector: {app: perf}
  ports: [{port: 5201, nodePort: 30521}]
"""
    )
    for place, host, port in (
        (("lab", "exec", "client"), "10.96.100.3", "5201"),
        (("lab", "client", "ann"), "172.18.0.2", "30521"),
    ):
        text = ""
        for _ in range(20):
            command = ["iperf3", "-c", host, "-p", port, "-t", "1", "-J"]
            text = lab.run(*place, "--", *command, check=False)
            if "sum_received" in text:
                break
            time.sleep(0.2)
        assert json.loads(text)["end"]["sum_received"]["bytes"] > 1_000_000


RESOLVE = """
import sys, dns.message, dns.query
for how in (dns.query.udp, dns.query.tcp):
    for n in range(10):
        query = dns.message.make_query("db.shop.example", "A" if n % 2 else "AAAA")
        answer = how(query, sys.argv[1], port=int(sys.argv[2]), timeout=3)
        print(*(item for rrset in answer.answer for item in rrset))
"""


def test_names_are_resolved_through_a_service(lab: LabRun) -> None:
    """A DNS server behind a ClusterIP and a NodePort, both families, UDP and TCP."""
    names = "db.shop.example=192.0.2.7,2001:db8::7"
    server = f"{sys.executable} {Path(__file__).with_name('dns_server.py')} 0.0.0.0 :: -- {names}"
    lab.apply(
        f"""
apiVersion: v1
kind: Pod
metadata:
  name: dns
  labels: {{app: dns}}
  annotations: {{lab.axoneme.io/command: "{server}"}}
spec: {{nodeName: node2, containers: [{{name: c}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: dns}}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  clusterIP: 10.96.100.5
  clusterIPs: ["10.96.100.5", "fd00:10:96::100:5"]
  selector: {{app: dns}}
  ports:
  - {{name: udp, port: 53, protocol: UDP, nodePort: 30153}}
  - {{name: tcp, port: 53, protocol: TCP, nodePort: 30153}}
"""
    )
    for place, host, port in (
        (("lab", "exec", "client"), "10.96.100.5", "53"),
        (("lab", "exec", "client"), "fd00:10:96::100:5", "53"),
        (("lab", "client", "ann"), "172.18.0.2", "30153"),
        (("lab", "client", "ann"), "fd00:18::2", "30153"),
    ):
        command = (sys.executable, "-c", RESOLVE, host, port)
        lines: list[str] = []
        for _ in range(20):  # the server needs a moment
            lines = lab.run(*place, "--", *command, check=False).split()
            if len(lines) == 20:
                break
            time.sleep(0.2)
        assert lines == ["2001:db8::7", "192.0.2.7"] * 10, host
