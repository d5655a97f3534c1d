"""P13: an agent in a cluster of 5,000 nodes and 150,000 pods, replayed (``k8s_server.py``)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.perf.measure import Result, Sample

Note = Callable[[str], None]
Numbers = dict[str, float]
ROWS: Final = (
    ("watch_rate", "/s", "events of 4.1-KB pods, socket to store", "≥ 40000", 40_000.0, False),
    ("watch_cpu_us", "µs", "CPU of one of them", "≤ 25", 25.0, True),
    ("pod_rate", "/s", "events of 4.1-KB pods, socket to row", "note", None, False),
    ("pod_cpu_us", "µs", "CPU of one of them", "note", None, True),
    ("shape_rate", "/s", "pods to an operator's label sets, from the socket", "note", None, False),
    ("shape_cpu_us", "µs", "CPU of one of them", "note", None, True),
    ("shape_kib", "KiB", "memory of an operator for each pod", "note", None, True),
    ("shape_sets", "", "label sets of 40,000 pods", "note", None, True),
    ("pod_kib", "KiB", "memory for each remote pod, both families", "≤ 2", 2.0, True),
    ("others_mib", "MiB", "memory of nodes, identities, services, policies", "note", None, True),
    ("synced_s", "s", "from nothing until all is in the tables", "note", None, True),
    ("synced_cpu_s", "s", "CPU of that", "note", None, True),
    ("endpoint_rate", "/s", "endpoints listed, socket to ipcache", "note", None, False),
    ("churn_rate", "/s", "endpoints changed, socket to ipcache", "note", None, False),
    ("churn_cpu_us", "µs", "CPU of one of them", "note", None, True),
    ("churn_mib", "MiB", "memory that 40,000 changes leave behind", "note", None, True),
    ("lists", "", "lists of 8 kinds", "8", 8.0, True),
)
"""Figure, unit, words, target, limit, whether less is better."""


def once() -> Numbers:
    """A server and three agents and an operator's part, one after the other."""
    command = [sys.executable, "-m", "tests.perf.k8s_server"]
    found: Numbers = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        for mode in ("watch", "pods", "shapes", "scale"):
            agent = [sys.executable, "-m", "tests.perf.k8s_agent", url, mode]
            done = subprocess.run(agent, check=True, stdout=subprocess.PIPE, timeout=600)
            found |= json.loads(done.stdout)
        assert server.stdin is not None
        server.stdin.close()
    return found


def bench(folder: Path, repetitions: int, note: Note, wanted: set[str]) -> Iterator[Result]:
    """Each repetition is a server and agents of its own."""
    if "P13" not in wanted:
        return
    found: list[Numbers] = []
    for number in range(repetitions):
        found.append(once())
        note(f"P13: repetition {number + 1} of {repetitions}")
    for name, unit, words, target, limit, less in ROWS:
        sample = Sample(tuple(numbers[name] for numbers in found))
        met = limit if limit is None else (sample.median <= limit) is less
        yield Result("P13", words, unit, sample, None, target, met)


if __name__ == "__main__":
    print(json.dumps(once(), indent=1))
