"""Network namespaces by name, and running code inside them.

Only the network namespace is entered, never a new mount namespace as ``ip netns exec`` makes:
``/sys/fs/bpf`` must stay the machine's own.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from axoneme.core.errors import LabError
from axoneme.core.lab import cgroups
from axoneme.core.lab.paths import NETNS_DIR
from axoneme.core.lab.shell import ip_batch

CLONE_NEWNET: Final = 0x40000000
T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def enter(path: Path) -> None:
    """Move the calling thread into the namespace at ``path`` (setns(2))."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"namespace {path.name}: {os.strerror(error.errno or 0)}") from error
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise LabError(f"namespace {path.name}: setns: {os.strerror(code)}")
    finally:
        os.close(fd)


def run_in(path: Path, function: Callable[[], T]) -> T:
    """Run ``function`` inside a namespace, in a thread of its own that ends afterwards."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            enter(path)
            results.append(function())
        except BaseException as error:  # handed to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=body, name=f"netns-{path.name}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def exec_in(path: Path, command: Sequence[str]) -> NoReturn:
    """Replace this process by ``command`` inside a namespace; its exit code becomes ours."""
    cgroups.join(path)
    enter(path)
    try:
        os.execvp(command[0], list(command))  # noqa: S606 - no shell is the point
    except OSError as error:
        raise LabError(f"{command[0]}: {os.strerror(error.errno or 0)}") from error


def names() -> list[str]:
    """Every named namespace of the machine."""
    try:
        return sorted(entry.name for entry in NETNS_DIR.iterdir())
    except FileNotFoundError:
        return []


def create(new: Iterable[str]) -> None:
    """Make named namespaces."""
    ip_batch([f"netns add {name}" for name in new])


def delete(old: Iterable[str]) -> None:
    """Remove named namespaces; those that are gone already are fine."""
    present = set(names())
    ip_batch([f"netns delete {name}" for name in old if name in present], force=True)


def inode(path: Path) -> int:
    """The namespace's inode number, equal to that of ``/proc/PID/ns/net`` of those inside."""
    return path.stat().st_ino


def write_sysctls(path: Path, values: dict[str, str]) -> None:
    """Set sysctls (paths below ``/proc/sys``) inside a namespace; unknown ones are skipped."""

    def write() -> None:
        for key, value in values.items():
            target = Path("/proc/sys") / key
            if target.exists():
                target.write_text(value)

    run_in(path, write)
