"""Garbage collection of the conntrack tables.

Programs treat an entry past its time as absent, so a collection only makes room. What must never
happen is that it removes an entry that a packet has revived: the answers of that connection would
look like strangers. So an entry goes only when it has been dead for a while, and after a second
look. A scan copies a table in batches and costs about 0.3 s of one core per half million
entries; it runs in a thread. The pace follows the yield.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from attrs import define, field

from axoneme.core.conntrack.pace import Pace

log = logging.getLogger(__name__)

TABLES: Final = ("axo_ct4", "axo_ct6", "axo_ct_any4", "axo_ct_any6")
TICK_SHIFT: Final = 30
"""``AXO_TICK_SHIFT``: times are units of 2^30 ns of CLOCK_MONOTONIC."""
GRACE_TICKS: Final = 30
"""How long an entry must have been dead, about 32 s."""
FIRST_INTERVAL: Final = 300.0
SHORTEST: Final = 10.0
LONGEST: Final = 12 * 3600.0

_U32 = struct.Struct("=I")


class RawMap(Protocol):
    """What is needed of :class:`axoneme.core.datapath.maps.BpfMap`."""

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, in batches."""
        ...

    def lookup(self, key: bytes) -> bytes | None:
        """One value."""
        ...

    def delete(self, key: bytes) -> bool:
        """Remove one."""
        ...


@define
class ConntrackTable:
    """One table and where its entries say when they end."""

    map: RawMap
    expires_offset: int


def ticks() -> int:
    """Now, as the programs count."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> TICK_SHIFT


@define
class ConntrackCollector:
    """Blocking; one scan at a time. ``fixed`` (seconds) switches the adaptation off."""

    tables: Mapping[str, ConntrackTable]
    fixed: float = 0.0
    pace: Pace = field(factory=lambda: Pace(FIRST_INTERVAL, SHORTEST, LONGEST))
    now: Callable[[], int] = ticks
    scanned: dict[str, int] = field(factory=dict)
    """Entries that the last scan saw, by table."""
    removed: int = 0
    runs: int = 0
    last_seconds: float = 0.0

    def run(self) -> int:
        """Scan all tables; returns how many entries were removed."""
        began = time.monotonic()
        seen = gone = 0
        for name, table in self.tables.items():
            count, dead = self._scan(table)
            self.scanned[name] = count
            seen += count
            gone += self._sweep(table, dead)
        self.removed += gone
        self.runs += 1
        self.last_seconds = time.monotonic() - began
        self.pace.note(seen, gone)
        return gone

    def delay(self) -> float:
        """Seconds until the next scan."""
        return self.fixed or self.pace.interval

    def _scan(self, table: ConntrackTable) -> tuple[int, list[bytes]]:
        limit = self.now() - GRACE_TICKS
        unpack, offset = _U32.unpack_from, table.expires_offset
        count, dead = 0, []
        for key, value in table.map.items():
            count += 1
            if unpack(value, offset)[0] < limit:
                dead.append(key)
        return count, dead

    def _sweep(self, table: ConntrackTable, keys: list[bytes]) -> int:
        limit = self.now() - GRACE_TICKS
        gone = 0
        for key in keys:
            value = table.map.lookup(key)  # a packet may have come since the scan
            if value is not None and _U32.unpack_from(value, table.expires_offset)[0] < limit:
                gone += table.map.delete(key)
        return gone
