"""P10: nanoseconds per packet of each program, counted by the kernel under real traffic."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path

from axoneme.core.datapath import syscalls, tc
from axoneme.core.datapath.loader import Program, program_info
from axoneme.core.netlink.api import Netlink
from axoneme.core.netlink.namespaces import run_in_netns
from tests.perf import cluster
from tests.perf.measure import Result, Sample, build_netbench, requests
from tests.perf.traffic import NATIVE

Note = Callable[[str], None]
ROOT = cluster.PATHS.bpf
PROG_GET_FD_BY_ID = 13
LINK_INFO_SIZE = 64


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


def bench(folder: Path, repetitions: int, note: Note, wanted: set[str]) -> Iterator[Result]:
    """Mean run time of each program: one long flow (established), then only short ones."""
    if "P10" not in wanted:
        return
    tool = build_netbench()
    cases = (("rr", "established flow", 300.0), ("crr", "connections, all packets", 1000.0))
    with cluster.lab(folder, *NATIVE) as addresses:
        programs = _programs("node1")
        switch = syscalls.enable_stats()
        try:
            for mode, words, limit in cases:
                ends = (
                    cluster.PATHS.pod_netns_name("bench", "a"),
                    cluster.PATHS.pod_netns_name("bench", "b"),
                    addresses["b"],
                )
                costs: dict[str, list[float]] = {name: [] for name in programs}
                for number in range(repetitions):
                    note(f"P10 {words}: repetition {number + 1} of {repetitions}")
                    before = {name: p.stats() for name, p in programs.items()}
                    requests(tool, mode, *ends)
                    for name, program in programs.items():
                        runs = program.stats()[0] - before[name][0]
                        spent = program.stats()[1] - before[name][1]
                        if runs > 1000:
                            costs[name].append(spent / runs)
                for name, values in costs.items():
                    if not values:
                        continue
                    sample = Sample(tuple(values))
                    met = sample.median <= limit
                    what = f"{name}, {words}"
                    yield Result("P10", what, "ns", sample, None, f"≤ {limit:.0f}", met)
        finally:
            os.close(switch)
            for program in programs.values():
                program.close()
