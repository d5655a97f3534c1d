"""Numbers of frontends, services' ports and backends in the kernel.

They outlive the agent: a flow's entry holds a backend's number and the frontend's. So a new agent
takes over what the maps say before it gives out any.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from attrs import define, field

from axoneme.core.errors import ExhaustedError

K = TypeVar("K", bound=Hashable)


@define
class Numbers(Generic[K]):
    """One number each, from 1 to ``last``; what is given back is used again as late as possible."""

    what: str
    last: int = (1 << 31) - 2
    by_key: dict[K, int] = field(factory=dict)
    _taken: set[int] = field(factory=set)
    _next: int = 1

    def adopt(self, known: Mapping[K, int]) -> None:
        """Take over numbers that are in use."""
        for key, number in known.items():
            if 1 <= number <= self.last and number not in self._taken:
                self.by_key[key] = number
                self._taken.add(number)
        self._next = max(self._taken, default=0) + 1

    def get(self, key: K) -> int:
        """The number of a key, given now if it has none."""
        number = self.by_key.get(key)
        if number is None:
            number = self.by_key[key] = self._free()
            self._taken.add(number)
        return number

    def reserve(self, key: K, number: int) -> int:
        """A wanted number, if it is free and the key has none; else as :meth:`get`."""
        if key not in self.by_key and number and number not in self._taken:
            self.by_key[key] = number
            self._taken.add(number)
        return self.get(key)

    def release(self, key: K) -> None:
        """The key is gone."""
        number = self.by_key.pop(key, None)
        if number is not None:
            self._taken.discard(number)

    def release_others(self, keep: Iterable[K]) -> None:
        """Only these are left."""
        for key in set(self.by_key) - set(keep):
            self.release(key)

    def _free(self) -> int:
        for _ in range(len(self._taken) + 1):
            number = self._next
            self._next = number + 1 if number < self.last else 1
            if number not in self._taken:
                return number
        raise ExhaustedError(f"no number is left for {self.what}")
