"""The BPF file system that pins live in: found, made below, or mounted."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from axoneme.core.errors import FatalError

BPF_FS_MAGIC: Final = 0xCAFE4A11
"""``f_type`` of bpffs, ``linux/magic.h``."""

_libc = ctypes.CDLL(None, use_errno=True)


def is_bpffs(path: Path) -> bool:
    """Whether ``path`` lies on a BPF file system."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs is 120 bytes; f_type comes first
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        return False
    return int.from_bytes(buffer.raw[:4], "little") == BPF_FS_MAGIC


def ensure(root: Path) -> None:
    """Make ``root`` a folder of a BPF file system; :class:`FatalError` says what to do if not."""
    above = next(p for p in (root, *root.parents) if p.exists())
    if not is_bpffs(above):
        _mount(root)
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise FatalError(f"bpf-root {root} cannot be made: {error.strerror}") from error


def _mount(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise FatalError(
            f"bpf-root {root} is not on a BPF file system",
            hint=f"mount -t bpf bpf {root.parent}, outside of 'ip netns exec'",
        ) from error
    if _libc.mount(b"bpf", os.fsencode(root), b"bpf", 0, b"mode=0700") != 0:
        raise FatalError(
            f"no BPF file system at bpf-root {root}: {os.strerror(ctypes.get_errno())}",
            hint=f"mount -t bpf bpf {root}",
        )
