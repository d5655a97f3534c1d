"""P10: nanoseconds per packet of each program, counted by the kernel under real traffic.

The kernel's own counting is in the numbers: two readings of the clock, some 60 ns a run here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path

from axoneme.core.datapath import syscalls, tc
from axoneme.core.datapath.loader import Program, program_info
from axoneme.core.netlink.api import Netlink
from axoneme.core.netlink.namespaces import run_in_netns
from tests.perf import cluster
from tests.perf.measure import Result, Sample, build_netbench, requests
from tests.perf.traffic import NATIVE, VXLAN

Note = Callable[[str], None]
ROOT = cluster.PATHS.bpf
PROG_GET_FD_BY_ID = 13
LINK_INFO_SIZE = 64
CASES = (("rr", "established flow", 300.0), ("crr", "connections, all packets", 1000.0))
LABS = (
    (NATIVE, (("b", "same node"), ("c", "two nodes, native"))),
    (VXLAN, (("c", "two nodes, VXLAN"),)),
)
"""Configuration of a lab; pods that pod a talks to, and how they are reached."""


def _attached(node: str) -> Iterator[int]:
    """Ids of what is attached on a node: by pinned links, and by filters of pods' devices."""
    for pin in sorted((ROOT / node / "axoneme" / "links").iterdir()):
        link = syscalls.obj_get(str(pin))
        yield struct.unpack_from("=8xI", syscalls.info_by_fd(link, LINK_INFO_SIZE))[0]
        os.close(link)
    space = cluster.PATHS.netns_name(node)
    with Netlink(space) as netlink:
        devices = [device.index for device in netlink.links()]
    for device, parent in product(devices, (tc.INGRESS, tc.EGRESS)):
        found = run_in_netns(space, partial(tc.current, device, parent))
        if found is not None:
            yield found.prog_id


def _programs(node: str) -> dict[str, Program]:
    """The programs that are attached on a node, by name."""
    found: dict[str, Program] = {}
    for prog_id in set(_attached(node)):
        fd = syscalls.fd_by_id(PROG_GET_FD_BY_ID, prog_id)
        number, tag, _, name = program_info(fd)
        found[name] = Program(name, fd, number, tag, 0)
    return found


Costs = dict[str, list[float]]


def _measure(programs: dict[str, Program], traffic: Callable[[], object], costs: Costs) -> None:
    """Run traffic once; note the mean run time of each program that it kept busy."""
    before = {name: program.stats() for name, program in programs.items()}
    traffic()
    for name, program in programs.items():
        (runs, spent), (old_runs, old_spent) = program.stats(), before[name]
        if runs - old_runs > 1000:
            costs.setdefault(name, []).append((spent - old_spent) / (runs - old_runs))


def _rows(
    programs: dict[str, Program], peer: tuple[str, str], words: str, repetitions: int, note: Note
) -> Iterator[Result]:
    """One long flow (established), then only short ones, from pod a to a peer."""
    tool = build_netbench()
    for mode, flow, limit in CASES:
        what = f"{words}, {flow}"
        traffic = partial(requests, tool, mode, "axo-pod-bench-a", *peer)
        costs: Costs = {}
        for number in range(repetitions):
            note(f"P10 {what}: repetition {number + 1} of {repetitions}")
            _measure(programs, traffic, costs)
        for name, values in costs.items():
            sample = Sample(tuple(values))
            met = sample.median <= limit
            yield Result("P10", f"{name}, {what}", "ns", sample, None, f"≤ {limit:.0f}", met)


def bench(folder: Path, repetitions: int, note: Note, wanted: set[str]) -> Iterator[Result]:
    """Mean run time of each program of both nodes, under each kind of traffic."""
    if "P10" not in wanted:
        return
    for config, peers in LABS:
        with cluster.lab(folder, *config) as addresses, ExitStack() as stack:
            programs = {
                f"{name} of {node}": program
                for node in ("node1", "node2")
                for name, program in _programs(node).items()
            }
            for program in programs.values():
                stack.callback(program.close)
            stack.callback(os.close, syscalls.enable_stats())
            for pod, words in peers:
                peer = (f"axo-pod-bench-{pod}", addresses[pod])
                yield from _rows(programs, peer, words, repetitions, note)
