"""Long-running processes of the lab: started inside a namespace, found again by pid files.

A pid file holds the process id and, on a second line, the process's start time (field 22 of
``/proc/PID/stat``), so that a number that the kernel gave out again is never mistaken for ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from attrs import frozen

from axoneme.core.errors import LabError
from axoneme.core.lab import cgroups, netns
from axoneme.core.lab.paths import NETNS_DIR, LabPaths


@frozen
class Process:
    """A process by number and start time (clock ticks since boot)."""

    pid: int
    start: int

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return _start_time(self.pid) == self.start

    def signal(self, number: int) -> None:
        """Send a signal; a process that is gone is fine."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait_gone(self, timeout: float) -> bool:
        """Wait until it is gone, at most ``timeout`` seconds; reaps it if it is our child."""
        deadline = time.monotonic() + timeout
        while self.alive:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True


def spawn(
    path: Path,
    command: Sequence[str],
    *,
    log: Path,
    pid_file: Path | None = None,
    pass_fds: tuple[int, ...] = (),
) -> Process:
    """Start a process in a namespace, in a session of its own, its output appended to ``log``.

    ``nsenter`` with the network namespace alone: it enters and executes the command, so the
    process id is the command's. Variables of this project in our environment are the user's for
    the command line, not for agents, and stay out.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AXONEME_", "CILIUM_"))}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            ["nsenter", f"--net={path}", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            pass_fds=pass_fds,
            cwd="/",
        )
    cgroups.join(path, child.pid)
    process = Process(child.pid, _start_time(child.pid) or 0)
    child.returncode = 0  # it outlives us: nobody is to warn that it was not waited for
    if pid_file is not None:
        pid_file.write_text(f"{process.pid}\n{process.start}\n")
    return process


def from_pid_file(path: Path) -> Process | None:
    """The living process that a pid file names."""
    try:
        pid, start = (int(x) for x in path.read_text().split())
    except (OSError, ValueError):
        return None
    process = Process(pid, start)
    return process if process.alive else None


def stop(process: Process, timeout: float = 10.0) -> None:
    """SIGTERM, and an error when it is still there after ``timeout`` seconds."""
    process.signal(signal.SIGTERM)
    if not process.wait_gone(timeout):
        raise LabError(
            f"process {process.pid} does not stop",
            hint="`axoneme lab agent NODE kill` ends it at once",
        )


def kill_all(processes: Iterable[Process], timeout: float = 5.0) -> list[Process]:
    """SIGKILL them all, wait, and return those that are still there."""
    doomed = list(processes)
    for process in doomed:
        process.signal(signal.SIGKILL)
    deadline = time.monotonic() + timeout
    return [p for p in doomed if not p.wait_gone(max(0.0, deadline - time.monotonic()))]


def inside(paths: LabPaths, wanted: Callable[[str], bool] = lambda name: True) -> list[Process]:
    """Every process whose network namespace is one of this lab's (and ``wanted`` by name)."""
    inodes = set()
    for name in netns.names():
        if paths.owns_netns(name) and wanted(name):
            with contextlib.suppress(OSError):
                inodes.add(netns.inode(NETNS_DIR / name))
    own = Path("/proc/self/ns/net").stat().st_ino
    inodes.discard(own)
    if not inodes:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if (entry / "ns" / "net").stat().st_ino in inodes:
                pid = int(entry.name)
                start = _start_time(pid)
                if start is not None:
                    found.append(Process(pid, start))
    return found


def _start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name stands in parentheses and may hold anything; fields count after it.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])
