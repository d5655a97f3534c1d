"""Endpoint ids: 1 to 65535, unique on the node, the longest unused one first."""

from __future__ import annotations

from typing import Final

from axoneme.core.errors import ConflictError, ExhaustedError

MAX_ID: Final = 65535


class EndpointIds:
    """Ids in use and the next to try."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._next = 1

    def allocate(self) -> int:
        """A free id; ``ExhaustedError`` when the node has 65,535 endpoints."""
        if len(self._taken) >= MAX_ID:
            raise ExhaustedError(f"no endpoint id left: all {MAX_ID} are in use")
        while self._next in self._taken:
            self._advance()
        number = self._next
        self._taken.add(number)
        self._advance()
        return number

    def claim(self, number: int) -> None:
        """Take a certain id, on a restore."""
        if not 1 <= number <= MAX_ID or number in self._taken:
            raise ConflictError(f"endpoint id {number} is out of range or in use")
        self._taken.add(number)
        self._next = max(self._next, number)

    def resume(self, number: int) -> None:
        """Go on after the id that was given last, so that none comes back soon after a restart."""
        self._next = number
        self._advance()

    def release(self, number: int) -> None:
        """Free an id. Idempotent."""
        self._taken.discard(number)

    def _advance(self) -> None:
        self._next = self._next % MAX_ID + 1
