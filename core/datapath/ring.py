"""Read a BPF ring buffer through its memory map.

The kernel maps one page with the reader's position, one with the writer's, and the data twice in
a row, so that a record that wraps is contiguous (``Documentation/bpf/ringbuf.rst``). A record is
a header of 8 bytes (length with a busy and a discard bit) and data, rounded up to 8.

Programs that submit with ``BPF_RB_NO_WAKEUP`` make nobody ready in ``epoll``: such a ring is
polled by a timer; :meth:`RingReader.drain` costs a microsecond when there is nothing.
"""

from __future__ import annotations

import mmap
from typing import Final

from axoneme.core.datapath.maps import BpfMap
from axoneme.core.datapath.objects import MAP_TYPES
from axoneme.core.errors import DatapathError

_BUSY: Final = 1 << 31
_DISCARD: Final = 1 << 30
_HEADER: Final = 8
_PAGE: Final = mmap.PAGESIZE


class RingReader:
    """The one consumer of a ring. ``fd`` is for ``loop.add_reader``."""

    def __init__(self, ring: BpfMap) -> None:
        if ring.info.type != MAP_TYPES["ringbuf"]:
            raise DatapathError(f"map {ring.name} is {ring.info.type_name}, not a ring buffer")
        self.fd = ring.fd
        self.size = ring.info.max_entries
        self.records = 0
        """Records read so far."""
        self.discarded = 0
        """Records that a program reserved and then gave up."""
        self._consumer = mmap.mmap(ring.fd, _PAGE, mmap.MAP_SHARED)
        self._producer = mmap.mmap(
            ring.fd, _PAGE + 2 * self.size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE
        )
        self._consumed = memoryview(self._consumer).cast("Q")
        self._view = memoryview(self._producer)
        self._produced = self._view[:8].cast("Q")
        self._data = self._view[_PAGE:]
        self._lengths = self._data.cast("I")

    @property
    def pending(self) -> int:
        """Bytes written and not yet read."""
        return self._produced[0] - self._consumed[0]

    @property
    def fill(self) -> float:
        """How full the ring is, 0 to 1; near 1 programs lose events (and count them)."""
        return self.pending / self.size

    def drain(self, limit: int = 4096) -> list[bytes]:
        """Take up to ``limit`` records; one copy each, the position is given back once."""
        position = self._consumed[0]
        end = self._produced[0]
        mask = self.size - 1
        data, lengths = self._data, self._lengths
        records: list[bytes] = []
        while position < end and len(records) < limit:
            at = position & mask
            header = lengths[at >> 2]
            if header & _BUSY:
                break  # reserved, not submitted yet: later ones wait for it
            length = header & ~_DISCARD
            if header & _DISCARD:
                self.discarded += 1
            else:
                records.append(bytes(data[at + _HEADER : at + _HEADER + length]))
            position += (length + _HEADER + 7) & ~7
        self._consumed[0] = position
        self.records += len(records)
        return records

    def close(self) -> None:
        """Unmap; the map itself stays open."""
        for view in (self._lengths, self._data, self._produced, self._view, self._consumed):
            view.release()
        self._consumer.close()
        self._producer.close()
