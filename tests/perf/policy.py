"""P7: from a change of policy to the first connect that feels it; 1,000 policies from nothing.

Pod ``client`` knocks at pod ``server`` every half millisecond (``knock.py``), while one policy is
rewritten in the store: it lets the client in, or nobody. 98 more pods, each of an identity of its
own, are the subjects and peers of the other policies.

The store's own share is what a second watcher of the same folder measures for the same change:
writing, being told, and reading the file. What is left until the first knock that felt it is ours.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from axoneme.core.store.sync import SyncStore
from tests.perf import cluster
from tests.perf.measure import Result, Sample
from tests.perf.topology import inside
from tests.perf.watcher import Watcher

Note = Callable[[str], None]

KIND: Final = "CiliumNetworkPolicy"
FILLERS: Final = 98
"""Pods beside client and server: 100 endpoints."""
FEW, MANY = 10, 1000
PEERS: Final = 10
CHANGES: Final = 20
"""Of each of the two directions in one repetition; p99 wants a hundred in all."""
PAUSE: Final = 0.06
PORT: Final = 7777
FIRST: Final = 10_000
"""Port of the first of the policies that select one endpoint."""
KNOCK: Final = str(Path(__file__).with_name("knock.py"))

POD = """apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: bench
  labels: {{app: {name}}}
  annotations: {{lab.axoneme.io/command: "sleep infinity"}}
spec:
  nodeName: node1
  containers: [{{name: main, image: none}}]
"""

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: bench}\n---\n"


def policy(name: str, subject: str, peers: list[str], port: int) -> dict[str, Any]:
    """Lets some apps in to one port of an app."""
    terms = [{"key": "app", "operator": "In", "values": peers}]
    rule = {
        "fromEndpoints": [{"matchExpressions": terms}],
        "toPorts": [{"ports": [{"port": str(port), "protocol": "TCP"}]}],
    }
    return {
        "apiVersion": "cilium.io/v2",
        "kind": KIND,
        "metadata": {"name": name, "namespace": "bench"},
        "spec": {"endpointSelector": {"matchLabels": {"app": subject}}, "ingress": [rule]},
    }


def filler(number: int) -> dict[str, Any]:
    """One of the policies that are just there: ten apps may reach an eleventh."""
    peers = [f"f{(number + 1 + i) % FILLERS}" for i in range(PEERS)]
    return policy(f"f{number}", f"f{number % FILLERS}", peers, 8000 + number // FILLERS)


def toggle(*, answered: bool) -> dict[str, Any]:
    """The policy that changes."""
    return policy("toggle", "server", ["client" if answered else "nobody"], PORT)


def delays() -> tuple[float, float]:
    """What the agent counts itself: seconds from events to the kernel, and changes."""
    rows = json.loads(
        cluster.axoneme("metrics", "list", "implementation_delay", "--node", "node1", "-o", "json")
    )
    values = {
        r["name"].rpartition("_")[2]: r["value"] for r in rows if r["labels"]["source"] == KIND
    }
    return values.get("sum", 0.0), values.get("count", 0.0)


class Store:
    """The lab's folder store, and many changes to it at once."""

    def __init__(self) -> None:
        root = cluster.PATHS.store
        self.engine = SyncStore(root)
        self.folder = root / KIND
        self._stage = root.with_name("bench-stage")

    def put_all(self, bodies: list[dict[str, Any]]) -> tuple[int, int]:
        """Write beside, then move in by renames; when the first and when the last was there."""
        stage = SyncStore(self._stage)
        files = [stage.path(stage.apply(body).key) for body in bodies]
        begin = time.monotonic_ns()
        for file in files:
            file.rename(self.folder / file.name)
        return begin, time.monotonic_ns()

    def drop(self, names: list[str]) -> None:
        """Remove policies."""
        for name in names:
            with suppress(FileNotFoundError):
                (self.folder / f"bench.{name}.yaml").unlink()


@frozen
class Change:
    """Milliseconds of one change: until the watcher knew, until a knock felt it."""

    store: float
    whole: float

    @property
    def ours(self) -> float:
        """What the agent took beyond the store."""
        return max(0.0, self.whole - self.store)


@contextmanager
def lab(folder: Path) -> Iterator[str]:
    """A node with 100 pods; yields the server's address."""
    cluster.axoneme("lab", "down")
    try:
        cluster.axoneme("lab", "up", "--nodes", "1")
        names = ["client", "server", *(f"f{i}" for i in range(FILLERS))]
        cluster.apply(NAMESPACE + "---\n".join(POD.format(name=name) for name in names), folder)
        (cluster.PATHS.store / KIND).mkdir(exist_ok=True)
        found = cluster.pods()["server"]["addresses"]
        yield next(a for a in found if ":" not in a)
    finally:
        cluster.axoneme("lab", "down")


def _start(pod: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        inside(
            cluster.PATHS.pod_netns_name("bench", pod), sys.executable, "-IS", KNOCK, *arguments
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


@contextmanager
def server(*ports: int) -> Iterator[None]:
    """Answers in the server's pod."""
    process = _start("server", "serve", *map(str, ports))
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Knocks:
    """Knocking while the block lasts; afterwards ``found`` says what became of each."""

    def __init__(self, address: str, *ports: int) -> None:
        self.found: list[tuple[int, int, bool]] = []
        self._arguments = ("knock", address, *map(str, ports))

    def __enter__(self) -> Knocks:
        self._process = _start("client", *self._arguments)
        time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self.found = [tuple(row) for row in json.loads(self._process.communicate()[0])]

    def first(self, after: int, port: int, *, answered: bool) -> int:
        """When the first knock at a port began that was answered, or was not."""
        for begin, at, result in self.found:
            if begin >= after and at == port and result is answered:
                return begin
        raise RuntimeError(f"no knock was {'answered' if answered else 'refused'} any more")


def changes(store: Store, watcher: Watcher, address: str, count: int) -> dict[bool, list[Change]]:
    """Close and open ``count`` times; changes by whether the client is let in by them."""
    begun: list[tuple[int, bool]] = []
    with Knocks(address, PORT) as knocks:
        for number in range(2 * count):
            answered = bool(number % 2)
            begun.append((time.monotonic_ns(), answered))
            store.engine.apply(toggle(answered=answered))
            time.sleep(PAUSE)
    found: dict[bool, list[Change]] = {True: [], False: []}
    for begin, answered in begun:
        told = watcher.first("toggle", begin)
        felt = knocks.first(begin, PORT, answered=answered)
        found[answered].append(Change((told - begin) / 1e6, (felt - begin) / 1e6))
    return found


def settled() -> None:
    """Wait until the agent and the operator have nothing more to do."""
    spent = -1
    pids = [cluster.agent_pid("node1"), cluster.agent_pid("operator")]
    while (now := sum(map(_ticks, pids))) > spent + 3:
        spent = now
        time.sleep(0.5)


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def from_nothing(store: Store, address: str) -> tuple[float, float]:
    """Seconds until 1,000 policies that select one endpoint are enforced, from the first write and
    from the last."""
    numbers = range(MANY)
    bodies = [policy(f"s{n:04}", "server", ["client"], FIRST + n) for n in numbers]
    ports = (FIRST, FIRST + MANY // 2, FIRST + MANY - 1)
    store.drop(["toggle"])
    store.engine.apply(policy("closed", "server", ["nobody"], PORT))
    settled()
    with server(*ports), Knocks(address, *ports) as knocks:
        begin, last = store.put_all(bodies)
        _wait_for_entries(MANY)
    felt = max(knocks.first(begin, port, answered=True) for port in ports)
    store.drop([f"s{n:04}" for n in numbers] + ["closed"])
    settled()
    return (felt - begin) / 1e9, (felt - last) / 1e9


def _wait_for_entries(count: int) -> None:
    for _ in range(60):
        time.sleep(1.0)
        subjects = json.loads(
            cluster.axoneme("bpf", "policy", "get", "bench/server", "--node", "node1", "-o", "json")
        )
        if sum(len(s["entries"]) for s in subjects) >= count:
            return
    raise RuntimeError(f"there are no {count} entries after a minute")


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of all lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


Found = dict[int, dict[bool, list[list[Change]]]]
"""Changes by how many policies there are, whether they let in, and repetition."""


def _p50(repetitions: list[list[Change]], what: str = "ours") -> Sample:
    return Sample(tuple(statistics.median(getattr(c, what) for c in r) for r in repetitions))


def _rows(found: Found) -> Iterator[Result]:
    for answered, word in {False: "refused", True: "allowed"}.items():
        few, many = found[FEW][answered], found[MANY][answered]
        ours = _p50(many)
        whole, plain = _p50(many, "whole"), _p50(few, "whole")
        last = percentile([c.ours for changes in many for c in changes], 0.99)
        what = f"change to first {word} connect, beyond the store"
        yield _one(f"{what}, p50", "ms", ours, "≤ 10", ours.median <= 10)
        yield _one(f"{what}, p99", "ms", Sample((last,)), "≤ 100", last <= 100)
        what = f"change to first {word} connect, with the store, p50"
        yield _one(what, "ms", whole, "note", None)
        what = f"first {word} connect, with the store, 1,000 policies : 10"
        met = whole.median <= 1.5 * plain.median
        yield Result("P7", what, "ms", whole, plain, "≤ 1.5", met)
    both = [a + b for a, b in zip(found[MANY][True], found[MANY][False], strict=True)]
    yield _one("the store's own share of a change, p50", "ms", _p50(both, "store"), "note", None)


def _one(what: str, unit: str, sample: Sample, target: str, met: bool | None) -> Result:
    return Result("P7", what, unit, sample, None, target, met)


def bench(folder: Path, repetitions: int, note: Note, wanted: set[str]) -> Iterator[Result]:
    """The same changes with 10 and with 1,000 policies in turn; then 1,000 from nothing."""
    if "P7" not in wanted:
        return
    note("P7: 100 pods")
    with lab(folder) as address:
        store = Store()
        yield from _changes(store, address, repetitions, note)
        yield from _from_nothing(store, address, repetitions, note)


def _changes(store: Store, address: str, repetitions: int, note: Note) -> Iterator[Result]:
    found: Found = {count: {True: [], False: []} for count in (FEW, MANY)}
    own: list[float] = []
    store.engine.apply(toggle(answered=True))
    with Watcher(cluster.PATHS.store, KIND) as watcher, server(PORT):
        for number in range(repetitions):
            for count in (FEW, MANY):
                _fill(store, count)
                before = delays()
                for way, values in changes(store, watcher, address, CHANGES).items():
                    found[count][way].append(values)
                if count == MANY:
                    spent, times = (b - a for a, b in zip(before, delays(), strict=True))
                    own.append(spent / times * 1000)
            note(f"P7 changes: repetition {number + 1} of {repetitions}")
    yield from _rows(found)
    what = "event to kernel, by the agent's own metric, mean"
    yield _one(what, "ms", Sample(tuple(own)), "note", None)


def _from_nothing(store: Store, address: str, repetitions: int, note: Note) -> Iterator[Result]:
    _fill(store, 0)
    times = []
    for number in range(repetitions):
        times.append(from_nothing(store, address))
        note(f"P7 from nothing: repetition {number + 1} of {repetitions}")
    first, last = Sample(tuple(t for t, _ in times)), Sample(tuple(t for _, t in times))
    what = "1,000 policies for one endpoint, enforced after the"
    yield _one(f"{what} first write", "s", first, "≤ 1", first.median <= 1)
    yield _one(f"{what} last write", "s", last, "note", None)


def _fill(store: Store, count: int) -> None:
    """Leave ``count`` of the other policies."""
    store.drop([f"f{n}" for n in range(count, MANY)])
    missing = [n for n in range(count) if not (store.folder / f"bench.f{n}.yaml").exists()]
    store.put_all([filler(n) for n in missing])
    settled()
