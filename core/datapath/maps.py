"""A kernel map by its descriptor: single entries, batches, iteration.

Keys and values are ``bytes`` of exactly the map's sizes; ``typed`` puts models on top. Batches
are one system call for thousands of entries (0.5 µs each instead of 2 to 4); a kernel or map type
without them is served entry by entry.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

from axoneme.core.datapath import batches
from axoneme.core.datapath import syscalls as sc
from axoneme.core.datapath.batches import BATCH, UNSUPPORTED
from axoneme.core.datapath.objects import (
    MAP_TYPE_NAMES,
    MAP_TYPES,
    OF_MAPS_TYPES,
    PERCPU_TYPES,
    MapDef,
)
from axoneme.core.errors import DatapathError, ExhaustedError, NotFoundError

ANY, NOEXIST, EXIST = sc.ANY, sc.NOEXIST, sc.EXIST
_INFO_SIZE: Final = 88


def possible_cpus() -> int:
    """Slots of a per-CPU value: possible, not online, CPUs."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.split(",")[-1].split("-")[-1]) + 1


@frozen
class MapInfo:
    """What the kernel says about a map; sizes in bytes."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str

    @property
    def type_name(self) -> str:
        """Such as ``lru_hash``."""
        return MAP_TYPE_NAMES.get(self.type, str(self.type))


def read_info(fd: int) -> MapInfo:
    """Ask the kernel (``struct bpf_map_info``)."""
    raw = sc.info_by_fd(fd, _INFO_SIZE)
    kind, number, key, value, entries, flags, name = struct.unpack_from("=IIIIII16s", raw)
    return MapInfo(kind, number, key, value, entries, flags, name.split(b"\0")[0].decode())


class BpfMap:
    """One kernel map. Owns its descriptor: ``close`` it, or use it in a ``with``."""

    def __init__(self, fd: int, info: MapInfo, definition: MapDef | None = None) -> None:
        self.fd = fd
        self.info = info
        self.definition = definition
        self.percpu = self.slots(info.type)
        stride = (info.value_size + 7) // 8 * 8
        self.value_bytes = stride * self.percpu if self.percpu else info.value_size
        self._batch = info.type not in OF_MAPS_TYPES

    @staticmethod
    def slots(map_type: int) -> int:
        """Values of an entry: one for each possible CPU in a per-CPU map, else 0."""
        return possible_cpus() if map_type in PERCPU_TYPES else 0

    @classmethod
    def create(  # the kernel's own order
        cls,
        type: str | int,
        key_size: int,
        value_size: int,
        max_entries: int,
        flags: int = 0,
        name: str = "",
        *,
        inner: BpfMap | None = None,
    ) -> BpfMap:
        """Create a map; ``inner`` is the template of a map of maps."""
        number = MAP_TYPES[type] if isinstance(type, str) else type
        inner_fd = inner.fd if inner else 0
        try:
            fd = sc.map_create(
                number,
                key_size,
                value_size,
                max_entries,
                flags=flags,
                inner_fd=inner_fd,
                name=name,
            )
        except OSError as exc:
            raise DatapathError(
                f"map {name or type} ({key_size} B keys, {value_size} B values, {max_entries} "
                f"entries) cannot be created: {exc.strerror}",
                errno=exc.errno or 0,
            ) from exc
        return cls(fd, read_info(fd))

    @classmethod
    def from_fd(cls, fd: int) -> BpfMap:
        """Take over a descriptor."""
        return cls(fd, read_info(fd))

    @classmethod
    def open(cls, path: Path) -> BpfMap:
        """Open a pinned map."""
        try:
            return cls.from_fd(sc.obj_get(str(path)))
        except FileNotFoundError:
            raise NotFoundError(f"no map is pinned at {path}") from None

    @classmethod
    def by_id(cls, number: int) -> BpfMap | None:
        """Open a map by its id; ``None`` if it is gone."""
        try:
            return cls.from_fd(sc.fd_by_id(sc.MAP_GET_FD_BY_ID, number))
        except FileNotFoundError:
            return None

    @property
    def name(self) -> str:
        """The C name if known, else the kernel's (15 characters)."""
        return self.definition.name if self.definition else self.info.name

    def close(self) -> None:
        """Close the descriptor; the map lives on while it is pinned or used."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> BpfMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pin(self, path: Path) -> None:
        """Pin at a path of the BPF file system, whose folder is made if missing."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sc.obj_pin(self.fd, str(path))
        except OSError as exc:
            raise DatapathError(
                f"map {self.name} cannot be pinned at {path}: {exc.strerror}",
                errno=exc.errno or 0,
                hint="is a BPF file system mounted there, and is the name free",
            ) from exc

    # -- single entries ----------------------------------------------------------------

    def _element(
        self, command: int, key: bytes, value: ctypes.Array[ctypes.c_char] | None, flags: int = 0
    ) -> None:
        """One call on one entry. All buffers are local: threads may share a map."""
        if len(key) != self.info.key_size:
            raise DatapathError(
                f"map {self.name}: key of {len(key)} bytes, {self.info.key_size} wanted"
            )
        buffer = ctypes.create_string_buffer(key, len(key))
        address = ctypes.addressof(value) if value is not None else 0
        sc.bpf(
            command,
            sc.attributes("=IIQQQ", self.fd, 0, ctypes.addressof(buffer), address, flags),
        )

    def lookup(self, key: bytes) -> bytes | None:
        """The value (per-CPU: all slots, each padded to 8 bytes), or ``None``."""
        value = ctypes.create_string_buffer(self.value_bytes)
        try:
            self._element(sc.MAP_LOOKUP_ELEM, key, value)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise self._error("lookup", exc) from exc
        return value.raw

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Set an entry; raises ``ExhaustedError`` when the map is full."""
        if len(value) != self.value_bytes:
            raise DatapathError(
                f"map {self.name}: value of {len(value)} bytes, {self.value_bytes} wanted"
            )
        buffer = ctypes.create_string_buffer(value, len(value))
        try:
            self._element(sc.MAP_UPDATE_ELEM, key, buffer, flags)
        except OSError as exc:
            raise self._error("update", exc) from exc

    def delete(self, key: bytes) -> bool:
        """Remove an entry; ``False`` if it was not there."""
        try:
            self._element(sc.MAP_DELETE_ELEM, key, None)
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise self._error("delete", exc) from exc
        return True

    def _error(self, verb: str, exc: OSError) -> Exception:
        if exc.errno in (errno.E2BIG, errno.ENOSPC) or (
            exc.errno == errno.ENOMEM and verb == "update"
        ):
            return ExhaustedError(
                f"map {self.name} is full ({self.info.max_entries} entries)",
                hint="raise the option that sets its size",
            )
        return DatapathError(
            f"map {self.name}: {verb} failed: {exc.strerror}", errno=exc.errno or 0
        )

    # -- iteration ---------------------------------------------------------------------

    def keys(self) -> Iterator[bytes]:
        """All keys, one system call each; entries removed meanwhile may restart the walk."""
        key_size = self.info.key_size
        buffer = ctypes.create_string_buffer(key_size)
        following = ctypes.create_string_buffer(key_size)
        address = 0
        for _ in range(2 * self.info.max_entries + 2):
            attr = sc.attributes("=IIQQQ", self.fd, 0, address, ctypes.addressof(following), 0)
            try:
                sc.bpf(sc.MAP_GET_NEXT_KEY, attr)
            except FileNotFoundError:
                return
            yield following.raw
            buffer.raw = following.raw
            address = ctypes.addressof(buffer)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, in batches. Entries that change meanwhile may be missed or seen twice."""
        if self._batch:
            try:
                yield from batches.entries(
                    self.fd, self.info.key_size, self.value_bytes, self.info.max_entries
                )
            except OSError as exc:
                if exc.errno not in UNSUPPORTED:
                    raise self._error("dump", exc) from exc
                self._batch = False
            else:
                return
        for key in self.keys():
            if (value := self.lookup(key)) is not None:
                yield key, value

    # -- batches -----------------------------------------------------------------------

    def update_batch(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Set many entries. On an error a part may be done; calling again is harmless."""
        rows = list(pairs)
        self._check_sizes([k for k, _ in rows], self.info.key_size, "key")
        self._check_sizes([v for _, v in rows], self.value_bytes, "value")
        for start in range(0, len(rows), BATCH):
            chunk = rows[start : start + BATCH]
            if not self._update_chunk(chunk):
                for key, value in chunk:
                    self.update(key, value)

    def _update_chunk(self, chunk: list[tuple[bytes, bytes]]) -> bool:
        """``False`` if the map type has no batches."""
        if not self._batch:
            return False
        try:
            batches.update(self.fd, chunk)
        except OSError as exc:
            if exc.errno in UNSUPPORTED:
                self._batch = False
                return False
            raise self._error("update", exc) from exc
        return True

    def delete_batch(self, keys: Iterable[bytes]) -> None:
        """Remove many entries; those that are not there are skipped."""
        rows = list(keys)
        self._check_sizes(rows, self.info.key_size, "key")
        while rows and self._batch:
            try:
                done = batches.delete(self.fd, rows[:BATCH])
            except OSError as exc:
                if exc.errno not in UNSUPPORTED:
                    raise self._error("delete", exc) from exc
                self._batch = False
            else:
                rows = rows[done:]
        for key in rows:
            self.delete(key)

    def _check_sizes(self, rows: list[bytes], size: int, what: str) -> None:
        """The kernel reads as many bytes as it wants, not as many as there are."""
        for row in rows:
            if len(row) != size:
                raise DatapathError(f"map {self.name}: {what} of {len(row)} bytes, {size} wanted")

    def replace(self, wanted: dict[bytes, bytes]) -> tuple[int, int]:
        """Make the contents equal to ``wanted``: additions and changes before removals.

        Returns how many entries were set and removed.
        """
        present = dict(self.items())
        changed = [(k, v) for k, v in wanted.items() if present.get(k) != v]
        gone = [k for k in present if k not in wanted]
        self.update_batch(changed)
        self.delete_batch(gone)
        return len(changed), len(gone)

    def set_map(self, key: bytes, inner: BpfMap) -> None:
        """Put a map into a map of maps; the kernel keeps it alive."""
        self.update(key, struct.pack("=I", inner.fd))

    def get_map(self, key: bytes) -> BpfMap | None:
        """The inner map of a map of maps, opened anew."""
        value = self.lookup(key)
        return BpfMap.by_id(struct.unpack("=I", value)[0]) if value else None

    def cpu_values(self, value: bytes) -> list[bytes]:
        """The slots of a per-CPU value, without their padding."""
        stride = self.value_bytes // max(self.percpu, 1)
        size = self.info.value_size
        return [value[i * stride : i * stride + size] for i in range(max(self.percpu, 1))]
