"""Generations in ``axo_runtime`` that tell running programs that cached verdicts are old.

Several reconcilers raise the same number from threads of their own. Read, add, write must be one
step: two that read the same value would write the same value, and a connection re-checked after
the first write would pass as current although the second change came after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol


class RuntimeSlots(Protocol):
    """The slots of ``axo_runtime`` by number: u64 each, zero when never written."""

    def get(self, slot: int) -> int:
        """Read a slot."""
        ...

    def set(self, slot: int, value: int) -> None:
        """Write a slot."""
        ...


class Generation:
    """One generation number; :meth:`bump` is safe from every thread of this process."""

    def __init__(self, slots: Callable[[], RuntimeSlots], slot: Callable[[], int]) -> None:
        self._slots = slots
        self._slot = slot
        self._lock = threading.Lock()

    def bump(self) -> int:
        """Raise the number by one; call it after the maps hold the change. Returns the new one."""
        with self._lock:
            slots, slot = self._slots(), self._slot()
            value = (slots.get(slot) + 1) & 0xFFFFFFFFFFFFFFFF or 1
            slots.set(slot, value)
            return value


class PolicyGeneration(Generation):
    """Slot ``POLICY_GEN``: raise it when a verdict of an existing flow may have changed."""


class IpcacheGeneration(Generation):
    """Slot ``IPCACHE_GEN``: raise it when the ipcache has changed in any way."""
