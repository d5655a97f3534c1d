"""Rows into a BPF map: the target of most tables of the packet path.

One row is one entry. Changes go in batches; when a batch fails its rows are tried one by one, so
that one bad row never keeps the others out. A full pass reads the map, writes what differs and
removes what no row stands for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from axoneme.core.datapath.typed import TypedMap
from axoneme.core.errors import AxonemeError

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class MapTarget(Generic[K, R]):
    """Entry of a row: ``encode(row)`` gives key and value models.

    ``after`` is called, where the change was made, whenever the map has changed, and after the
    first full pass: a predecessor may have been killed between its change and the call.
    """

    at_once = 12
    """Rows; an entry takes 3 µs in the kernel and some 10 to encode. A hop to a thread takes 80."""

    def __init__(
        self,
        name: str,
        typed: TypedMap[Any, Any],
        encode: Callable[[R], tuple[Any, Any]],
        *,
        after: Callable[[], object] | None = None,
    ) -> None:
        self.name = name
        self._typed = typed
        self._encode = encode
        self._after = after
        self._passed = False

    def apply(self, upserts: Mapping[K, R], deletes: Mapping[K, R]) -> Mapping[K, Exception]:
        """Additions and changes first, then removals."""
        failed: dict[K, Exception] = {}
        entries = self._encoded(upserts, failed)
        self._write(entries, failed)
        kept = {entry[0] for entry in entries.values()}
        for key, row in deletes.items():
            try:
                gone = self._encode(row)[0]
                if gone not in kept:  # two rows may stand for one entry while it changes hands
                    self._typed.delete(gone)
            except AxonemeError as error:
                failed[key] = error
        self._changed()
        return failed

    def resync(self, desired: Mapping[K, R]) -> Mapping[K, Exception]:
        """Compare everything, repair, sweep."""
        failed: dict[K, Exception] = {}
        entries = self._encoded(desired, failed)
        present = dict(self._typed.items())
        wanted = dict(entries.values())
        different = {
            k: entry
            for k, entry in entries.items()
            if entry[0] not in present or present[entry[0]] != entry[1]
        }
        self._write(different, failed)
        stray = [k for k in present if k not in wanted]
        self._typed.delete_batch(stray)
        if different or stray:
            log.info(
                "map repaired",
                extra={"map": self.name, "written": len(different), "swept": len(stray)},
            )
        if different or stray or not self._passed:
            self._changed()
        self._passed = True
        return failed

    def _encoded(self, rows: Mapping[K, R], failed: dict[K, Exception]) -> dict[K, tuple[Any, Any]]:
        found = {}
        for key, row in rows.items():
            try:
                found[key] = self._encode(row)
            except AxonemeError as error:
                failed[key] = error
        return found

    def _write(self, entries: Mapping[K, tuple[Any, Any]], failed: dict[K, Exception]) -> None:
        if not entries:
            return
        try:
            self._typed.update_batch(entries.values())
            return
        except AxonemeError:
            pass
        for key, (map_key, value) in entries.items():
            try:
                self._typed[map_key] = value
            except AxonemeError as error:
                failed[key] = error

    def _changed(self) -> None:
        if self._after is not None:
            self._after()
