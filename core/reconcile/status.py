"""The honest state of one row in the world."""

from __future__ import annotations

from attrs import frozen


@frozen
class RowStatus:
    """``state`` is ``pending``, ``done`` or ``error``; ``retries`` counts failures in a row."""

    state: str
    error: str = ""
    retries: int = 0
    revision: int = 0
