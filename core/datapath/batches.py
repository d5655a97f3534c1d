"""Batched map calls: thousands of entries in one system call. Raw; ``maps`` is the interface.

A type without batches answers EINVAL or ENOTSUPP (524, a number that user space has no name for);
every other refusal is about the entries. ``OSError`` passes through.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from axoneme.core.datapath import syscalls as sc

BATCH: Final = 16384
"""Entries for each call."""
UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, 524})
_ATTRIBUTES: Final = "=QQQQIIQQ"
_COUNT_AT: Final = 32

Buffer = ctypes.Array[ctypes.c_char]


def _count(attr: Buffer) -> int:
    """How many entries the kernel got through."""
    return int(struct.unpack_from("=I", attr.raw, _COUNT_AT)[0])


def update(fd: int, rows: Sequence[tuple[bytes, bytes]]) -> None:
    """Set entries, whose sizes the caller has checked."""
    keys = b"".join(key for key, _ in rows)
    values = b"".join(value for _, value in rows)
    key_buffer = ctypes.create_string_buffer(keys, len(keys))
    value_buffer = ctypes.create_string_buffer(values, len(values))
    where = ctypes.addressof(key_buffer), ctypes.addressof(value_buffer)
    sc.bpf(sc.MAP_UPDATE_BATCH, sc.attributes(_ATTRIBUTES, 0, 0, *where, len(rows), fd, 0, 0))


def delete(fd: int, rows: Sequence[bytes]) -> int:
    """Remove entries up to, and passing over, the first that is not there: how many."""
    keys = b"".join(rows)
    buffer = ctypes.create_string_buffer(keys, len(keys))
    attr = sc.attributes(_ATTRIBUTES, 0, 0, ctypes.addressof(buffer), 0, len(rows), fd, 0, 0)
    try:
        sc.bpf(sc.MAP_DELETE_BATCH, attr)
    except FileNotFoundError:
        return _count(attr) + 1
    return len(rows)


def entries(
    fd: int, key_size: int, value_size: int, max_entries: int
) -> Iterator[tuple[bytes, bytes]]:
    """All entries; ``value_size`` counts all slots of a per-CPU value."""
    size = min(BATCH, max(max_entries, 1))
    token = ctypes.create_string_buffer(max(key_size, 16))
    started, more = False, True
    while more:
        keys = ctypes.create_string_buffer(key_size * size)
        values = ctypes.create_string_buffer(value_size * size)
        count, more = _lookup(fd, token, started, (keys, values), size)
        if count < 0:  # a bucket of the hash holds more than the batch
            size *= 4
            continue
        started = True
        raw_keys, raw_values = keys.raw, values.raw
        for i in range(count):
            key = raw_keys[i * key_size : (i + 1) * key_size]
            yield key, raw_values[i * value_size : (i + 1) * value_size]


def _lookup(
    fd: int, token: Buffer, started: bool, buffers: tuple[Buffer, Buffer], size: int
) -> tuple[int, bool]:
    """``(entries, more)``; ``(-1, True)`` when the buffers are too small."""
    where = ctypes.addressof(token)
    keys, values = (ctypes.addressof(buffer) for buffer in buffers)
    first = where if started else 0
    attr = sc.attributes(_ATTRIBUTES, first, where, keys, values, size, fd, 0, 0)
    try:
        sc.bpf(sc.MAP_LOOKUP_BATCH, attr)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            return -1, True
        if exc.errno != errno.ENOENT:
            raise
        return _count(attr), False
    return _count(attr), True
