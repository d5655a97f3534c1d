"""How soon a table is scanned again: what the last scan found dead decides."""

from __future__ import annotations

from typing import Final

from attrs import define

MUCH: Final = 0.25
LITTLE: Final = 0.05
"""Shares of a table found dead that make the next scan come sooner, or later."""


@define
class Pace:
    """Seconds between two scans, within bounds."""

    interval: float
    shortest: float
    longest: float

    def note(self, seen: int, gone: int) -> None:
        """A scan saw so many entries and removed so many."""
        share = gone / seen if seen else 0.0
        if share > MUCH:
            self.interval *= 1 - share
        elif share < LITTLE:
            self.interval *= 1.5
        self.interval = min(max(self.interval, self.shortest), self.longest)
