"""The ``bpf(2)`` system call, by ctypes: the smallest layer over the kernel.

Every function raises :class:`OSError` with the kernel's errno; the modules above turn it into an
error of ours that names the object. Numbers and attribute layouts: ``include/uapi/linux/bpf.h``.
A ``CDLL`` call gives up the interpreter lock, so a long batch in a thread stops nobody.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

_SYSCALL_NUMBERS: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351}
_NR_BPF: Final = _SYSCALL_NUMBERS.get(platform.machine(), 321)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

MAP_CREATE: Final = 0
MAP_LOOKUP_ELEM: Final = 1
MAP_UPDATE_ELEM: Final = 2
MAP_DELETE_ELEM: Final = 3
MAP_GET_NEXT_KEY: Final = 4
PROG_LOAD: Final = 5
OBJ_PIN: Final = 6
OBJ_GET: Final = 7
PROG_TEST_RUN: Final = 10
PROG_GET_FD_BY_ID: Final = 13
MAP_GET_FD_BY_ID: Final = 14
OBJ_GET_INFO_BY_FD: Final = 15
MAP_LOOKUP_BATCH: Final = 24
MAP_UPDATE_BATCH: Final = 26
MAP_DELETE_BATCH: Final = 27
LINK_CREATE: Final = 28
LINK_UPDATE: Final = 29
ENABLE_STATS: Final = 32

ANY: Final = 0
NOEXIST: Final = 1
EXIST: Final = 2
F_REPLACE: Final = 1 << 2
"""Flag of LINK_UPDATE: refuse unless the old program is the expected one."""

NAME_SIZE: Final = 16


def bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    """One call; ``attributes`` is the raw union, read and written in place."""
    result: int = _libc.syscall(
        _NR_BPF, command, ctypes.byref(attributes), ctypes.sizeof(attributes)
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def attributes(fmt: str, *values: object) -> ctypes.Array[ctypes.c_char]:
    """Pack the union; natural alignment is the caller's: every ``fmt`` starts with ``=``."""
    packed = struct.pack(fmt, *values)
    return ctypes.create_string_buffer(packed, len(packed))


def kernel_name(name: str) -> bytes:
    """A name that the kernel takes: 15 of ``[A-Za-z0-9_.]``."""
    clean = "".join(c if c.isalnum() or c in "_." else "_" for c in name)
    return clean.encode("ascii", "replace")[: NAME_SIZE - 1]


def map_create(
    map_type: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    flags: int = 0,
    inner_fd: int = 0,
    name: str = "",
) -> int:
    """Create a map; returns its descriptor (close-on-exec)."""
    attr = attributes(
        "=IIIIIII16sI",
        map_type,
        key_size,
        value_size,
        max_entries,
        flags,
        inner_fd,
        0,
        kernel_name(name),
        0,
    )
    return bpf(MAP_CREATE, attr)


def _path(path: str) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(os.fsencode(path))


def obj_pin(fd: int, path: str) -> None:
    """Pin an object at a path of the BPF file system."""
    name = _path(path)
    bpf(OBJ_PIN, attributes("=QII", ctypes.addressof(name), fd, 0))


def obj_get(path: str) -> int:
    """Open a pinned object."""
    name = _path(path)
    return bpf(OBJ_GET, attributes("=QII", ctypes.addressof(name), 0, 0))


def info_by_fd(fd: int, size: int) -> bytes:
    """``bpf_{map,prog,link}_info``, as many bytes as the kernel knows of ``size``."""
    buffer = ctypes.create_string_buffer(size)
    attr = attributes("=IIQ", fd, size, ctypes.addressof(buffer))
    bpf(OBJ_GET_INFO_BY_FD, attr)
    return buffer.raw


def fd_by_id(command: int, number: int) -> int:
    """Open a program, map or link by its id (``command`` is one of ``*_GET_FD_BY_ID``)."""
    return bpf(command, attributes("=III", number, 0, 0))


def prog_load(
    prog_type: int,
    code: bytes,
    *,
    name: str = "",
    license_name: str = "GPL",
    expected_attach_type: int = 0,
    flags: int = 0,
    log_level: int = 0,
    log_size: int = 0,
) -> tuple[int, str]:
    """Load a program: ``(descriptor, verifier log)``; on refusal ``(-errno, log)``."""
    instructions = ctypes.create_string_buffer(code, len(code))
    gpl = ctypes.create_string_buffer(license_name.encode())
    log = ctypes.create_string_buffer(max(log_size, 1))
    attr = attributes(
        "=IIQQIIQII16sII40s",
        prog_type,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(gpl),
        log_level,
        log_size if log_level else 0,
        ctypes.addressof(log) if log_level else 0,
        0,
        flags,
        kernel_name(name),
        0,
        expected_attach_type,
        b"",
    )
    try:
        fd = bpf(PROG_LOAD, attr)
    except OSError as exc:
        return -(exc.errno or 1), log.value.decode(errors="replace")
    return fd, log.value.decode(errors="replace")


def link_create(prog_fd: int, target: int, attach_type: int, flags: int = 0) -> int:
    """Attach a program to an interface index or a cgroup descriptor; returns the link."""
    attr = attributes("=IIII48s", prog_fd, target, attach_type, flags, b"")
    return bpf(LINK_CREATE, attr)


def link_update(link_fd: int, new_prog_fd: int, old_prog_fd: int | None = None) -> None:
    """Replace a link's program in one step; with ``old_prog_fd``: compare and set (EPERM)."""
    flags = 0 if old_prog_fd is None else F_REPLACE
    bpf(LINK_UPDATE, attributes("=IIII", link_fd, new_prog_fd, flags, old_prog_fd or 0))


def enable_stats() -> int:
    """Run-time statistics of programs, for as long as the returned descriptor is open."""
    return bpf(ENABLE_STATS, attributes("=I", 0))
