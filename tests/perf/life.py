"""P8 and P9: adding pods through the CNI executable; starting and idling with 110 endpoints."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from axoneme.core.cni.shim import executable
from tests.perf import cluster
from tests.perf.measure import Result, Sample
from tests.perf.topology import run

Note = Callable[[str], None]
NODE = "node1"
EXECUTABLE = executable()
CPU_SECONDS = 20.0


def _cni(command: str, number: int) -> float:
    """Run the executable once for pod ``number``; returns milliseconds."""
    name = f"axob-p{number}"
    environment = {
        **os.environ,
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": f"bench{number}",
        "CNI_NETNS": f"/run/netns/{name}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(EXECUTABLE.parent),
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=p{number}",
    }
    config = {
        "cniVersion": "1.0.0",
        "name": "axoneme",
        "type": "axoneme-cni",
        "socket-path": str(cluster.PATHS.socket(NODE)),
    }
    begin = time.perf_counter()
    done = subprocess.run(
        [str(EXECUTABLE)],
        input=json.dumps(config),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"CNI {command} {name}: {done.stdout or done.stderr}")
    return (time.perf_counter() - begin) * 1000


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _pods(folder: Path, count: int) -> None:
    text = "---\n".join(
        f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: p{n}\n  namespace: bench\n"
        f'  labels: {{role: bench, app: "a{n % 10}"}}\n'
        f"spec:\n  nodeName: {NODE}\n  containers: [{{name: main, image: none}}]\n"
        for n in range(count)
    )
    store = cluster.PATHS.store
    from axoneme.core.store import manifest
    from axoneme.core.store.sync import SyncStore

    sync = SyncStore(store)
    for body in manifest.load_all(text, "bench"):
        sync.apply(body)


def _agent_ready(started: float) -> float:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(RuntimeError):
            cluster.axoneme("status", "--brief", "--node", NODE)
            return time.monotonic() - started
        time.sleep(0.02)
    raise RuntimeError("agent did not become ready within 60 s")


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def _one(number: str, what: str, unit: str, value: float, target: str, limit: float) -> Result:
    return Result(number, what, unit, Sample((value,)), None, target, value <= limit)


def bench(folder: Path, repetitions: int, note: Note, wanted: set[str]) -> Iterator[Result]:
    """Add 200 pods, keep 110, restart, and look at what that cost."""
    if not wanted & {"P8", "P9"}:
        return
    with cluster.lab(folder, "routing-mode=native", "auto-direct-node-routes=true", nodes=1):
        _pods(folder, 200)
        try:
            for number in range(200):
                run("ip", "netns", "add", f"axob-p{number}")
            yield from _adds(note)
            if "P9" in wanted:
                yield from _restarts(repetitions, note)
        finally:
            for number in range(200):
                with suppress(RuntimeError):
                    run("ip", "netns", "del", f"axob-p{number}")


def _adds(note: Note) -> Iterator[Result]:
    note("P8: 100 pods in a row")
    row = [_cni("ADD", n) for n in range(100)]
    yield _one("P8", "CNI ADD in a row, p50", "ms", _percentile(row, 0.5), "≤ 30", 30)
    yield _one("P8", "CNI ADD in a row, p99", "ms", _percentile(row, 0.99), "≤ 100", 100)
    note("P8: 100 pods, 10 at a time")
    with ThreadPoolExecutor(10) as pool:
        ten = list(pool.map(lambda n: _cni("ADD", n), range(100, 200)))
    yield _one("P8", "CNI ADD 10 at a time, p50", "ms", _percentile(ten, 0.5), "note", 1e9)
    yield _one("P8", "CNI ADD 10 at a time, p99", "ms", _percentile(ten, 0.99), "≤ 100", 100)
    gone = [_cni("DEL", n) for n in range(107, 200)]
    yield _one("P8", "CNI DEL, p50", "ms", _percentile(gone, 0.5), "note", 1e9)


def _restarts(repetitions: int, note: Note) -> Iterator[Result]:
    times = []
    for number in range(repetitions):
        note(f"P9: restart {number + 1} with 110 endpoints")
        cluster.axoneme("lab", "agent", NODE, "stop")
        started = time.monotonic()
        subprocess.run(
            [cluster.AXONEME, "lab", "agent", NODE, "start"], check=True, capture_output=True
        )
        times.append(_agent_ready(started))
    ready = Sample(tuple(times))
    yield Result("P9", "start to ready, 110 endpoints", "s", ready, None, "≤ 3", ready.median <= 3)
    pid = cluster.agent_pid(NODE)
    text = Path(f"/proc/{pid}/status").read_text()
    resident = int(text.split("VmRSS:")[1].split()[0]) / 1024
    yield _one("P9", "resident memory, 110 endpoints", "MiB", resident, "≤ 120", 120)
    note(f"P9: idle for {CPU_SECONDS:.0f} s")
    time.sleep(3)
    before = _cpu_ticks(pid)
    time.sleep(CPU_SECONDS)
    share = (_cpu_ticks(pid) - before) / os.sysconf("SC_CLK_TCK") / CPU_SECONDS * 100
    yield _one("P9", "idle CPU", "% of a core", share, "≤ 0.5", 0.5)
