"""Measure one path once: stream by iperf3, request/response by the program beside this file."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from tests.perf.topology import inside

SECONDS = float(os.environ.get("AXONEME_BENCH_SECONDS", "2"))
PORT = "7777"


@frozen
class Sample:
    """Repetitions of one measurement on one side; more is better unless ``less`` says not."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest minus smallest, relative to the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


@frozen
class Result:
    """One row of the table: ours against theirs, or ours alone against a target."""

    number: str
    what: str
    unit: str
    ours: Sample
    plain: Sample | None
    target: str
    met: bool | None

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours.median / self.plain.median if self.plain else None


def build_netbench() -> Path:
    """Compile the request/response program; returns its path."""
    compiler = shutil.which("gcc") or "cc"
    target = Path(tempfile.gettempdir()) / "axob-netbench"
    source = Path(__file__).with_name("netbench.c")
    subprocess.run([compiler, "-O2", "-o", str(target), str(source)], check=True)
    return target


@contextmanager
def server(namespace: str, *command: str) -> Iterator[None]:
    """Run a server in a namespace while the block lasts."""
    with subprocess.Popen(
        inside(namespace, *command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        time.sleep(0.3)
        try:
            yield
        finally:
            process.kill()


def _client(namespace: str, *command: str) -> dict[str, object]:
    out = subprocess.run(
        inside(namespace, *command), capture_output=True, text=True, timeout=60, check=False
    )
    if out.returncode:
        raise RuntimeError(f"{command[0]} in {namespace}: {out.stderr or out.stdout}")
    answer: dict[str, object] = json.loads(out.stdout)
    return answer


def stream(client: str, target: str, address: str) -> float:
    """Gbit/s of one TCP stream."""
    with server(target, "iperf3", "-s", "-1", "-A", "1"):
        answer = _client(client, "iperf3", "-c", address, "-t", f"{SECONDS:.0f}", "-J", "-A", "0")
    end = answer["end"]
    assert isinstance(end, dict)
    return float(end["sum_received"]["bits_per_second"]) / 1e9


def requests(tool: Path, mode: str, client: str, target: str, address: str) -> float:
    """Requests per second; client and server share one CPU, which is the quiet way here."""
    with server(target, str(tool), "server", PORT, "1"):
        answer = _client(client, str(tool), mode, address, PORT, str(SECONDS), "1")
    return float(str(answer["per_second"]))


def alternate(
    sides: dict[str, Callable[[], float]], repetitions: int, note: Callable[[str], None]
) -> dict[str, Sample]:
    """Measure all sides in turn, ``repetitions`` times, so that drift hits them alike."""
    values: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(repetitions):
        for side, measure in sides.items():
            values[side].append(measure())
        note(f"repetition {number + 1} of {repetitions}")
    return {side: Sample(tuple(v)) for side, v in values.items()}
