"""P1 to P4: streams, request/response, connections; ours against the kernel alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.perf import cluster, topology
from tests.perf.measure import Result, alternate, build_netbench, requests, stream

Note = Callable[[str], None]

NATIVE = ("routing-mode=native", "auto-direct-node-routes=true")
VXLAN = ("routing-mode=tunnel", "tunnel-protocol=vxlan")

Row = tuple[str, str, str, str, str, float]
"""Number, words, measurement, pod that answers, unit, target ratio."""

SAME: tuple[Row, ...] = (
    ("P1", "same node, TCP_STREAM", "stream", "b", "Gbit/s", 1.00),
    ("P2", "same node, TCP_RR", "rr", "b", "1/s", 1.05),
    ("P2", "same node, TCP_CRR", "crr", "b", "1/s", 1.00),
)


def _across(number: str, way: str) -> tuple[Row, ...]:
    return (
        (number, f"two nodes, {way}, TCP_STREAM", "stream", "c", "Gbit/s", 0.98),
        (number, f"two nodes, {way}, TCP_RR", "rr", "c", "1/s", 0.98),
        (number, f"two nodes, {way}, TCP_CRR", "crr", "c", "1/s", 0.98),
    )


def bench(folder: Path, repetitions: int, note: Note, wanted: set[str]) -> Iterator[Result]:
    """Run the rows that are wanted; yields results as they come."""
    tool = build_netbench()
    settings = (
        (NATIVE, False, [*SAME, *_across("P3", "native")]),
        (VXLAN, True, list(_across("P4", "VXLAN"))),
    )
    for config, vxlan, candidates in settings:
        rows = [row for row in candidates if row[0] in wanted]
        if not rows:
            continue
        with ExitStack() as stack:
            theirs = stack.enter_context(topology.plain(vxlan))
            ours = stack.enter_context(cluster.lab(folder, *config))
            for row in rows:
                yield _row(row, tool, ours, theirs, repetitions, note)


def _row(
    row: Row,
    tool: Path,
    ours: dict[str, str],
    theirs: dict[str, str],
    repetitions: int,
    note: Note,
) -> Result:
    number, words, mode, peer, unit, target = row
    sides = {}
    for side, prefix, addresses in (
        ("ours", cluster.PATHS.pod_netns_name("bench", ""), ours),
        ("plain", topology.PREFIX, theirs),
    ):
        ends = (f"{prefix}a", prefix + peer, addresses[peer])
        sides[side] = (
            partial(stream, *ends) if mode == "stream" else partial(requests, tool, mode, *ends)
        )
    samples = alternate(sides, repetitions, lambda text: note(f"{number} {words}: {text}"))
    ratio = samples["ours"].median / samples["plain"].median
    return Result(
        number, words, unit, samples["ours"], samples["plain"], f"≥ {target}", ratio >= target
    )
