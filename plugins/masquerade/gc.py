"""Garbage collection of the NAT tables.

A mapping says itself when it ends; the programs move that moment with each packet, by conntrack's
timeouts. A scan copies the table in batches, decides on the copy and looks at each candidate once
more, with its other side, before it goes: both go or none, and what a packet has revived meanwhile
stays. The pace follows the yield: much
found, sooner again; little, later.
"""

from __future__ import annotations

import struct
import time
from typing import Any, Final, Protocol

from attrs import define, field

from axoneme.core.conntrack.pace import Pace
from axoneme.core.datapath.typed import TypedMap
from axoneme.plugins.masquerade.compute import expired, partner_key, partner_of
from axoneme.plugins.masquerade.rows import NatEntry, NatKey

_U32: Final = struct.Struct("=I")


class Scannable(Protocol):
    """What the collector needs of a NAT table."""

    def scan(self, now: int) -> tuple[int, dict[NatKey, NatEntry]]:
        """How many entries there are, and those that were past their time at ``now``."""
        ...

    def get(self, key: NatKey) -> NatEntry | None:
        """One entry as it is now."""
        ...

    def delete_batch(self, keys: list[NatKey]) -> None:
        """Remove entries."""
        ...


class NatTable:
    """A NAT map of the kernel. Only entries past their time are decoded: a full table is large."""

    def __init__(self, typed: TypedMap[Any, NatEntry]) -> None:
        self._typed = typed
        layout = typed.values_codec.layout
        self._expires = next(f.offset for f in layout.fields if f.name == "expires")

    def scan(self, now: int) -> tuple[int, dict[NatKey, NatEntry]]:
        """Copy the table in batches and look at one number of each entry."""
        read, at = _U32.unpack_from, self._expires
        keys, values = self._typed.keys_codec, self._typed.values_codec
        seen = 0
        late: dict[NatKey, NatEntry] = {}
        for key, value in self._typed.map.items():
            seen += 1
            if read(value, at)[0] < now:
                late[keys.unpack(key)] = values.unpack(value)
        return seen, late

    def get(self, key: NatKey) -> NatEntry | None:
        """One entry."""
        return self._typed.get(key)

    def delete_batch(self, keys: list[NatKey]) -> None:
        """Remove entries; those that are not there are skipped."""
        self._typed.delete_batch(keys)


@define
class NatCollector:
    """Scans NAT tables; blocking, run it in a thread."""

    tables: dict[int, Scannable]
    """By family."""
    pace: Pace = field(factory=lambda: Pace(60.0, shortest=10.0, longest=3600.0))
    scanned: dict[int, int] = field(factory=dict)
    """Entries that the last scan saw, by family."""
    removed: int = 0
    """Entries removed since the start."""

    def run(self) -> int:
        """One scan of all tables; returns how many entries were removed."""
        seen = gone = 0
        for family, table in self.tables.items():
            now = int(time.monotonic())
            self.scanned[family], late = table.scan(now)
            seen += self.scanned[family]
            gone += self._sweep(table, expired(late, table.get, now))
        self.removed += gone
        self.pace.note(seen, gone)
        return gone

    def _sweep(self, table: Scannable, keys: list[NatKey]) -> int:
        now = int(time.monotonic())
        dead: dict[NatKey, None] = {}
        for key in keys:
            entry = table.get(key)
            if entry is None or entry.expires >= now:
                continue
            other = partner_key(key, entry)
            partner = partner_of(key, entry, table.get)
            if partner is None:
                dead[key] = None
            elif partner.expires < now:
                dead |= {key: None, other: None}
        table.delete_batch(list(dead))
        return len(dead)
