"""Connection attempts from inside pods, many at once, and what came of them.

Each source gets one helper process in its namespace that makes all its attempts. Meanwhile the
nodes' event streams are watched: an attempt whose packet (or whose answer) is reported as dropped
is denied at once, with the reason; only an attempt of which nothing is heard waits for the
time-out, which is long enough for a lost first packet to be sent again.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import define, frozen

from axoneme.core.errors import LabError
from axoneme.core.lab import cgroups
from axoneme.core.lab.drops import Drop, DropWatcher
from axoneme.core.lab.model import IPAddress, Lab
from axoneme.core.lab.targets import Place

PROBER: Final = Path(__file__).parent / "bin" / "prober"
PROTOCOLS: Final = ("tcp", "udp", "icmp", "dns")
TIMEOUT: Final = 3.0
"""Seconds; a SYN is sent again after one, so one lost packet does not make a denial."""
EVENT_GRACE: Final = 0.3
"""Seconds that a silent attempt's drop event may be late."""


@frozen
class Order:
    """One attempt to make."""

    source: Place
    target: Place
    family: int
    proto: str
    port: int
    name: str = ""
    """What to look up, if ``proto`` is dns."""

    @property
    def from_addresses(self) -> list[IPAddress]:
        """The addresses that the attempt may leave with."""
        places = (*self.source.addresses, *self.source.senders)
        return [a for a in places if a.version == self.family]

    @property
    def to_address(self) -> IPAddress:
        """The address that it is aimed at."""
        address = self.target.address(self.family)
        if address is None:
            raise LabError(f"{self.target.name} has no IPv{self.family} address")
        return address


@define
class Result:
    """What came of an attempt; ``latency_ms`` is ``None`` unless it was allowed."""

    verdict: str = ""  # allowed | denied | error
    latency_ms: float | None = None
    drop_reason: str | None = None
    detail: str = ""
    drop: Drop | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``axoneme lab probe``."""
        return {
            "verdict": self.verdict,
            "latency_ms": self.latency_ms,
            "drop_reason": self.drop_reason,
        }


def run(lab: Lab, orders: Sequence[Order], *, timeout: float = TIMEOUT) -> list[Result]:
    """Make all attempts at once; results in the order of ``orders``."""
    batch = _Batch(orders, timeout)
    with DropWatcher(lab, batch.dropped):
        batch.start()
        batch.wait()
    return batch.results


def order(
    source: Place, target: Place, *, family: int = 0, proto: str = "", port: int = 0
) -> Order:
    """Fill in what was not said: the family both have, the first port declared, else an echo."""
    if source.netns is None:
        raise LabError(f"{source.name} is not a place to start from")
    families = [family] if family else [4, 6]
    common = [f for f in families if target.address(f) and source.address(f)]
    if not common:
        raise LabError(f"{source.name} and {target.name} have no address family in common")
    port, proto = _port(target, port, proto)
    return Order(source, target, common[0], proto, port)


def _port(target: Place, port: int, proto: str) -> tuple[int, str]:
    """Port and protocol, completed from what the target declares."""
    if proto == "icmp":
        return 0, proto
    declared = [(n, p.lower()) for n, p in target.ports if p.lower() in PROTOCOLS]
    if port:
        matching = [p for n, p in declared if n == port]
        return port, proto or (matching[0] if matching else "tcp")
    for number, protocol in declared:
        if proto in ("", protocol):
            return number, protocol
    if proto:
        raise LabError(f"{target.name} declares no {proto} port", hint="give one with --port")
    return 0, "icmp"


class _Batch:
    """Attempts in progress, decided by whichever is first: an answer, a drop, the time-out."""

    def __init__(self, orders: Sequence[Order], timeout: float) -> None:
        self.orders = orders
        self.timeout = timeout
        self.results = [Result() for _ in orders]
        self._lock = threading.Lock()
        self._open = set(range(len(orders)))
        self._done = threading.Event()
        self._silent: deque[tuple[float, int]] = deque()
        self._index: dict[tuple[str, str, str, int], int] = {}
        self._helpers: list[tuple[subprocess.Popen[str], threading.Thread]] = []
        for number, item in enumerate(orders):
            for signature in _signatures(item):
                self._index[signature] = number
        if not orders:
            self._done.set()

    def start(self) -> None:
        """Start one helper per source."""
        groups: dict[Path, list[int]] = {}
        for number, item in enumerate(self.orders):
            assert item.source.netns is not None
            groups.setdefault(item.source.netns, []).append(number)
        for path, numbers in groups.items():
            process = _spawn(path)
            lines = [self._line(n) for n in numbers]
            thread = threading.Thread(target=self._talk, args=(process, lines), daemon=True)
            thread.start()
            self._helpers.append((process, thread))

    def _line(self, number: int) -> dict[str, Any]:
        item = self.orders[number]
        return {
            "id": number,
            "proto": item.proto,
            "address": str(item.to_address),
            "port": item.port,
            "name": item.name,
            "timeout": self.timeout,
        }

    def wait(self) -> None:
        """Wait until all are decided, then end the helpers."""
        rounds = 1 + len(self.orders) // 256
        deadline = time.monotonic() + self.timeout * rounds + 30.0
        while not self._done.wait(0.05) and time.monotonic() < deadline:
            while self._silent and self._silent[0][0] < time.monotonic():
                number = self._silent.popleft()[1]
                self._decide(number, Result("denied", detail="no answer"))
        for process, _ in self._helpers:
            process.kill()
            process.wait()
        for _, thread in self._helpers:
            thread.join()
        for number in list(self._open):
            self._decide(number, Result("error", detail="the prober did not answer"))

    def dropped(self, drop: Drop) -> None:
        """A drop was seen somewhere: the attempt it belongs to, if any, is denied."""
        for signature in drop.signatures():
            number = self._index.get(signature)
            if number is not None:
                self._decide(
                    number, Result("denied", drop_reason=drop.reason, drop=drop), late_reason=True
                )

    def _talk(self, process: subprocess.Popen[str], lines: list[dict[str, Any]]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(lines))
            process.stdin.close()
            for text in process.stdout:
                self._heard(json.loads(text))
        except (OSError, ValueError):
            pass  # it was ended because everything is decided, or it crashed
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.stdout.close()
        if process.wait() > 0:
            for line in lines:
                self._decide(line["id"], Result("error", detail="the prober failed"))

    def _heard(self, answer: dict[str, Any]) -> None:
        number = answer["id"]
        match answer["result"]:
            case "answered":
                self._decide(number, Result("allowed", latency_ms=answer["latency_ms"]))
            case "error":
                self._decide(number, Result("error", detail=answer["detail"]))
            case _:
                # The event of this very packet may still be on its way through the agent.
                self._silent.append((time.monotonic() + EVENT_GRACE, number))

    def _decide(self, number: int, result: Result, *, late_reason: bool = False) -> None:
        with self._lock:
            if number in self._open:
                self.results[number] = result
                self._open.discard(number)
            elif late_reason and self.results[number].verdict == "error":
                # A refusal that a drop explains: the answer was made by the node itself.
                self.results[number].drop_reason = result.drop_reason
            if not self._open:
                self._done.set()


def _signatures(item: Order) -> list[tuple[str, str, str, int]]:
    to = str(item.to_address)
    proto = "udp" if item.proto == "dns" else item.proto
    return [(proto, str(address), to, item.port) for address in item.from_addresses]


def _spawn(path: Path) -> subprocess.Popen[str]:
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    process = subprocess.Popen(
        ["nsenter", f"--net={path}", "--", python, "-ISE", str(PROBER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    cgroups.join(path, process.pid)  # it makes sockets only when it is told to
    return process


def summary(results: Iterable[Result]) -> dict[str, int]:
    """How many attempts ended how."""
    counts = {"allowed": 0, "denied": 0, "error": 0}
    for result in results:
        counts[result.verdict] += 1
    return counts
