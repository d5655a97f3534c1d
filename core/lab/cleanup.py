"""Removing a lab: everything that carries its name, whatever state it is in.

Nothing here trusts ``lab.json``: after a crash it may be missing or wrong. Namespaces are found by
prefix, processes by the namespace they are in and by pid files, pins, cgroups and files by folder.
Doing it twice, or on a machine without a lab, is fine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

from axoneme.core.lab import cgroups, netns, processes
from axoneme.core.lab.paths import RUNTIME_DIR, LabPaths


def tear_down(paths: LabPaths, say: Callable[[str], None] = lambda text: None) -> list[str]:
    """Remove the whole lab; returns what could not be removed, normally nothing."""
    left = []
    # A process may start another while we look: look until none is there.
    for _ in range(20):
        found = [*processes.inside(paths), *_from_pid_files(paths)]
        if not found:
            break
        say(f"ending {len(found)} processes")
        left = [f"process {p.pid}" for p in processes.kill_all(found)]
        if left:
            break
    ours = [name for name in netns.names() if paths.owns_netns(name)]
    if ours:
        say(f"removing {len(ours)} namespaces")
        netns.delete(ours)
    left += [f"namespace {name}" for name in netns.names() if paths.owns_netns(name)]
    remove_tree(paths.bpf)
    for root in cgroups.ROOTS:
        _remove_cgroup(root / paths.cgroup)
    remove_tree(paths.root)
    with contextlib.suppress(OSError):
        RUNTIME_DIR.rmdir()
    left += [str(p) for p in (paths.bpf, paths.root) if p.exists()]
    return left


def anything_there(paths: LabPaths) -> bool:
    """Whether any part of the lab is still on the machine."""
    return (
        paths.root.exists()
        or paths.bpf.exists()
        or any(paths.owns_netns(name) for name in netns.names())
    )


def _from_pid_files(paths: LabPaths) -> list[processes.Process]:
    found = (processes.from_pid_file(p) for p in paths.root.glob("nodes/*/*.pid"))
    return [p for p in found if p is not None]


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it.

    In the BPF file system files are only ever unlinked. A mount point below is detached first, so
    that no other file system is emptied by mistake.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                time.sleep(0.05)  # a process that was killed may have been writing
                shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _remove_cgroup(path: Path) -> None:
    """A cgroup goes by rmdir(2), children first, once no process is in it."""
    if not path.is_dir():
        return
    for child in path.iterdir():
        if child.is_dir():
            _remove_cgroup(child)
    for _ in range(20):
        try:
            path.rmdir()
            return
        except OSError:
            time.sleep(0.05)
