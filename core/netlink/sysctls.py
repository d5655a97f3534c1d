"""Sysctls of the calling thread's network namespace.

``/proc/sys/net`` shows the namespace of whoever opens the file, so a thread inside a pod's
namespace writes the pod's. Names are dotted; one whose parts contain dots (a device
``eth0.100``) is written with slashes instead.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Final

from axoneme.core.errors import NetlinkError
from axoneme.core.netlink.wire import failure

_where = {"root": "/proc/sys/"}
_PART: Final = re.compile(r"[A-Za-z0-9_.:@-]+")


def use(procfs: str) -> None:
    """Read and write below ``procfs`` from now on: a container's own ``/proc/sys`` is read-only.

    A mount of the host's ``/proc/sys/net`` does as well as its ``/proc``: what the files show is
    the namespace of the thread that opens them, wherever the mount came from.
    """
    _where["root"] = procfs.rstrip("/") + "/sys/"
    path.cache_clear()


@lru_cache(1024)
def path(name: str) -> str:
    """The file of a sysctl; refuses everything that could lead elsewhere."""
    parts = name.split("/" if "/" in name else ".")
    if not all(_PART.fullmatch(part) and part not in (".", "..") for part in parts):
        raise NetlinkError(f"sysctl {name!r}: not a name", errno=22)
    return _where["root"] + "/".join(parts)


def read(name: str) -> str:
    """The value, without the line's end."""
    try:
        descriptor = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 65536).decode().strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise failure(error.errno or 0, f"sysctl {name}") from error


def write(name: str, value: str) -> bool:
    """Set a value; ``False`` when it was so already. Blanks in a value count as one."""
    if read(name).split() == value.split():
        return False
    try:
        descriptor = os.open(path(name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise failure(error.errno or 0, f"sysctl {name}={value}") from error
    return True
