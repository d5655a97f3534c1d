"""The policy engine at scale, without a lab: ``python -m tests.perf.engine`` prints JSON, and
``make bench ARGS=engine`` the medians of several such processes.

10,000 identities in 100 groups of 100, 100 policies, each of which opens ten ports of one group to
ten others; 100 groups have an endpoint here. A process of its own, so that what its memory grows
by is the engine's; work is counted in decisions (``peers_computed``), which no neighbour disturbs.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from statistics import median
from typing import Any, Final

from axoneme.core.identities.reserved import reserved_identities
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import (
    CidrPeer,
    Direction,
    Operator,
    Origin,
    PortRange,
    Requirement,
    Rule,
    Selector,
)
from axoneme.plugins.policy.engine import PolicyEngine
from tests.perf.measure import Result, Sample

IDENTITIES: Final = 10_000
GROUPS: Final = 100
POLICIES: Final = 100
PEERS: Final = 10
"""Groups that each policy lets in."""
PREFIXES: Final = 1000
ROUNDS: Final = 5

Numbers = dict[str, float]
Note = Callable[[str], None]

ROWS: Final = (
    ("full_ms", "ms", "all of 10,000 identities by 100 policies", "note", None),
    ("entries", "", "entries of those, of 100 subjects", "note", None),
    ("entries_mib", "MiB", "memory of those entries", "note", None),
    ("identities_mib", "MiB", "memory of 10,000 identities", "note", None),
    ("known_pod_decisions", "decisions", "a new pod with a known identity", "0", 0.0),
    ("known_pod_ms", "ms", "a new pod with a known identity", "note", None),
    (
        "new_identity_decisions",
        "decisions",
        "a new identity, which ten policies select",
        "≤ 10",
        10.0,
    ),
    ("new_identity_ms", "ms", "a new identity, which ten policies select", "note", None),
    ("one_policy_ms", "ms", "one policy, of 1,000 peers", "note", None),
    ("prefixes_new_ms", "ms", "a rule for 1,000 prefixes", "note", None),
    ("prefixes_changed_ms", "ms", "one of those prefixes is another", "note", None),
)
"""Figure, unit, words, target, limit."""


def resident() -> float:
    """MiB of this process that are in memory."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def labels_of(number: int) -> LabelSet:
    """Identity ``number`` is a pod of group ``number % GROUPS``."""
    return LabelSet.parse(
        [
            "k8s:io.kubernetes.pod.namespace=bench",
            f"k8s:group=g{number % GROUPS}",
            f"k8s:app=a{number}",
        ]
    )


def group(*numbers: int) -> Selector:
    """The identities of some groups."""
    values = tuple(sorted(f"g{number % GROUPS}" for number in numbers))
    return Selector((Requirement("k8s", "group", Operator.IN, values),))


def policy(number: int, port: int = 8000) -> tuple[ObjectKey, list[Rule]]:
    """Policy ``number``: for its group, from the groups behind it."""
    key = ObjectKey("CiliumNetworkPolicy", "bench", f"p{number}")
    peers = group(*(number + 1 + i for i in range(PEERS)))
    ports = tuple(PortRange(6, port + i, port + i) for i in range(10))
    rule = Rule(Origin(key, "ingress[0]"), group(number), Direction.INGRESS, (peers,), ports=ports)
    return key, [rule]


def prefix_policy(first: int) -> tuple[ObjectKey, list[Rule]]:
    """1,000 prefixes from the one numbered ``first``, for one group."""
    key = ObjectKey("CiliumNetworkPolicy", "bench", "prefixes")
    cidrs = tuple(
        CidrPeer(ip_network((0x0A000000 + (first + i) * 256, 24))) for i in range(PREFIXES)
    )
    return key, [Rule(Origin(key, "egress[0]"), group(0), Direction.EGRESS, cidrs=cidrs)]


def filled() -> PolicyEngine:
    """An engine with the identities and the subjects, and no policy."""
    engine = PolicyEngine()
    for row in reserved_identities():
        engine.upsert_identity(row.id, row.labels)
    for number in range(IDENTITIES):
        engine.upsert_identity(1000 + number, labels_of(number))
    for number in range(GROUPS):
        engine.set_subject(1000 + number)
    engine.flush()
    return engine


def timed(work: Callable[[], Any], engine: PolicyEngine) -> tuple[float, int]:
    """Milliseconds and decisions of a change with its flush."""
    before = engine.peers_computed
    begin = time.perf_counter()
    work()
    engine.flush()
    return (time.perf_counter() - begin) * 1000, engine.peers_computed - before


def full(engine: PolicyEngine) -> Numbers:
    """All policies at once."""
    gc.collect()
    held = resident()

    def apply() -> None:
        for number in range(POLICIES):
            engine.set_rules(*policy(number))

    spent, decisions = timed(apply, engine)
    entries = sum(len(engine.entries(i)) for i in engine.subjects())
    gc.collect()
    return {
        "full_ms": spent,
        "full_decisions": decisions,
        "entries": entries,
        "entries_mib": resident() - held,
    }


def _medians(name: str, rounds: Iterator[tuple[float, int]]) -> Numbers:
    values = list(rounds)
    return {
        f"{name}_ms": median(spent for spent, _ in values),
        f"{name}_decisions": median(decisions for _, decisions in values),
    }


def changes(engine: PolicyEngine) -> Numbers:
    """One thing at a time, where everything is."""
    found: Numbers = {}
    engine.set_subject(1000)

    def known() -> Iterator[tuple[float, int]]:
        for _ in range(ROUNDS):
            yield timed(lambda: engine.upsert_identity(1005, labels_of(5)), engine)

    def new() -> Iterator[tuple[float, int]]:
        for i in range(ROUNDS):
            number = IDENTITIES + i
            yield timed(lambda n=number: engine.upsert_identity(1000 + n, labels_of(n)), engine)  # type: ignore[misc]

    def changed() -> Iterator[tuple[float, int]]:
        for i in range(ROUNDS):
            yield timed(lambda p=9001 + i: engine.set_rules(*policy(3, p)), engine)  # type: ignore[misc]

    found |= _medians("known_pod", known())
    found |= _medians("new_identity", new())
    found |= _medians("one_policy", changed())
    return found


def prefixes(engine: PolicyEngine) -> Numbers:
    """A rule for 1,000 prefixes comes; then one of them is another."""
    for i in range(PREFIXES + ROUNDS):
        prefix = ip_network((0x0A000000 + i * 256, 24))
        engine.upsert_identity((1 << 24) + i, LabelSet.parse(["reserved:world-ipv4"]), [prefix])
    engine.flush()
    spent, decisions = timed(lambda: engine.set_rules(*prefix_policy(0)), engine)
    found = {"prefixes_new_ms": spent, "prefixes_new_decisions": float(decisions)}

    def changed() -> Iterator[tuple[float, int]]:
        for i in range(ROUNDS):
            yield timed(lambda n=i + 1: engine.set_rules(*prefix_policy(n)), engine)  # type: ignore[misc]

    return found | _medians("prefixes_changed", changed())


def bench(folder: Path, repetitions: int, note: Note, wanted: set[str]) -> Iterator[Result]:
    """Each repetition is a process of its own."""
    if "engine" not in wanted:
        return
    found: list[Numbers] = []
    for number in range(repetitions):
        command = [sys.executable, "-m", "tests.perf.engine"]
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        note(f"engine: repetition {number + 1} of {repetitions}")
    for name, unit, words, target, limit in ROWS:
        sample = Sample(tuple(numbers[name] for numbers in found))
        met = None if limit is None else sample.median <= limit
        yield Result("engine", words, unit, sample, None, target, met)


def main() -> None:
    """Print the figures."""
    gc.collect()
    empty = resident()
    engine = filled()
    numbers: Numbers = {"identities_mib": resident() - empty}
    numbers |= full(engine) | changes(engine) | prefixes(engine)
    json.dump(numbers, sys.stdout)
    print()


if __name__ == "__main__":
    main()
