"""One agent per node: an exclusive ``flock`` that the kernel drops with the process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axoneme.core.errors import FatalError


@contextmanager
def state_lock(state_dir: Path) -> Iterator[None]:
    """Hold ``<state-dir>/agent.lock``; :class:`FatalError` names the process that has it."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
    path = state_dir / "agent.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise FatalError(
                f"another agent runs on this node (process {holder or 'unknown'}, {path})",
                hint="stop it first, or give this one its own state-dir",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
