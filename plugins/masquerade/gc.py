"""Garbage collection of the NAT tables.

A mapping says itself when it ends; the programs move that moment with each packet, by conntrack's
timeouts. A scan copies the table in batches, decides on the copy and looks at each candidate once
more before it goes: what a packet has revived meanwhile stays. The pace follows the yield: much
found, sooner again; little, later.
"""

from __future__ import annotations

import time
from typing import Any

from attrs import define, field

from axoneme.core.datapath.typed import TypedMap
from axoneme.plugins.masquerade.compute import expired
from axoneme.plugins.masquerade.rows import NatEntry

MUCH, LITTLE = 0.25, 0.05
"""Shares of a table found dead that make the next scan come sooner, or later."""


@define
class NatCollector:
    """Scans NAT tables; blocking, run it in a thread. Intervals are in seconds."""

    tables: dict[int, TypedMap[Any, NatEntry]]
    """By family."""
    interval: float = 60.0
    shortest: float = 10.0
    longest: float = 3600.0
    scanned: dict[int, int] = field(factory=dict)
    """Entries that the last scan saw, by family."""
    removed: int = 0
    """Entries removed since the start."""

    def run(self) -> int:
        """One scan of all tables; returns how many entries were removed."""
        seen = gone = 0
        for family, table in self.tables.items():
            entries = dict(table.items())
            self.scanned[family] = len(entries)
            seen += len(entries)
            gone += self._sweep(table, expired(entries, int(time.monotonic())))
        self.removed += gone
        self._pace(seen, gone)
        return gone

    def _sweep(self, table: TypedMap[Any, NatEntry], keys: list[Any]) -> int:
        now = int(time.monotonic())
        dead = []
        for key in keys:
            entry = table.get(key)
            if entry is not None and entry.expires < now:
                dead.append(key)
        table.delete_batch(dead)
        return len(dead)

    def _pace(self, seen: int, gone: int) -> None:
        share = gone / seen if seen else 0.0
        if share > MUCH:
            self.interval *= 1 - share
        elif share < LITTLE:
            self.interval *= 1.5
        self.interval = min(max(self.interval, self.shortest), self.longest)
