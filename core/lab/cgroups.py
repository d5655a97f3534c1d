"""Cgroups of a lab: one tree per node, so that its agent's socket programs see its sockets alone.

        <cgroup2>/axo-LAB/NODE		the node: its agent, and what is run on it
        <cgroup2>/axo-LAB/NODE/NETNS	a pod, named after its network namespace

A socket belongs to the cgroup in which its process was when it made it: processes join before they
make any.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from axoneme.core.lab.paths import LabPaths

ROOTS: Final = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
"""Where cgroup v2 may be, the hybrid layout first."""


def root() -> Path | None:
    """The cgroup v2 root of the machine, if it has one."""
    return next((r for r in ROOTS if (r / "cgroup.controllers").exists()), None)


def node(paths: LabPaths, name: str) -> Path | None:
    """The cgroup of a node."""
    top = root()
    return top / paths.cgroup / name if top is not None else None


def create(paths: LabPaths, name: str, pod: str = "") -> None:
    """Make a node's cgroup, or that of a pod on it, named after the pod's namespace."""
    place = node(paths, name)
    if place is not None:
        (place / pod if pod else place).mkdir(parents=True, exist_ok=True)


def remove_pod(paths: LabPaths, name: str, pod: str) -> None:
    """Remove a pod's cgroup; its processes are gone."""
    place = node(paths, name)
    if place is not None:
        with contextlib.suppress(OSError):
            (place / pod).rmdir()


def of(netns: Path) -> Path | None:
    """The cgroup that goes with a network namespace of a lab; ``None`` outside of nodes."""
    top = root()
    if top is None or not netns.name.startswith("axo-"):
        return None
    lab, _, rest = netns.name.removeprefix("axo-").partition("-")
    ours = top / f"axo-{lab}"
    if (ours / rest).is_dir():
        return ours / rest
    return next(top.glob(f"axo-*/*/{netns.name}"), None)


def join(netns: Path, pid: int = 0) -> None:
    """Move a process (0: this one) to where the processes of a namespace are."""
    place = of(netns)
    if place is None:
        return
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        fd = os.open(place / "cgroup.procs", os.O_WRONLY)
        try:
            os.write(fd, str(pid).encode())
        finally:
            os.close(fd)
