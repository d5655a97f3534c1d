"""The load-balancing maps as the target of table ``service_ports``.

Of a change only the entries that differ are written: first what is named, then whoever names it;
removals the other way round. Backends are shared: one goes with the last row that has it.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from axoneme.core.datapath.maps import BpfMap
from axoneme.core.datapath.typed import address_bytes
from axoneme.core.errors import AxonemeError
from axoneme.core.model.balancing import Backend, PortKey, ServicePort
from axoneme.plugins.services import maglev
from axoneme.plugins.services.kernel import BACKENDS, MAGLEV, ORDER, Encoder, Entries

log = logging.getLogger(__name__)

_WORD: Final = struct.Struct("=I")
Rows = Mapping[PortKey, ServicePort]


class Tables:
    """Maglev tables: an inner map each, made whole before it takes the old one's place."""

    def __init__(self, outer: BpfMap, size: int, seed: bytes) -> None:
        self._outer = outer
        self._size = size
        self._seed = seed
        self._have: dict[int, tuple[Backend, ...]] = {}

    def put(self, number: int, chosen: tuple[Backend, ...]) -> None:
        """The table of a set; without backends there is none."""
        if not chosen:
            self.drop(number)
            return
        if self._have.get(number) == chosen:
            return
        names = [address_bytes(b.address) + struct.pack("!HB", b.port, b.proto) for b in chosen]
        ids = [b.id for b in chosen]
        rows = maglev.table(names, self._size, self._seed)
        value = struct.pack(f"={self._size}I", *[ids[i] for i in rows])
        with BpfMap.create("array", 4, 4 * self._size, 1, 0, "axo_lb_table") as inner:
            inner.update(_WORD.pack(0), value)
            self._outer.set_map(_WORD.pack(number), inner)
        self._have[number] = chosen

    def drop(self, number: int) -> None:
        """The set needs none any more."""
        if self._have.pop(number, None) is not None:
            self._outer.delete(_WORD.pack(number))

    def review(self, numbers: Iterable[int]) -> None:
        """Only these are wanted; what somebody took out of the map is to be made again."""
        sound = set(self._numbers()) & set(numbers)
        self._have = {n: chosen for n, chosen in self._have.items() if n in sound}

    def sweep(self) -> None:
        """Nobody has put the rest since the review."""
        for number in self._numbers():
            if number not in self._have:
                self._outer.delete(_WORD.pack(number))

    def _numbers(self) -> list[int]:
        return [_WORD.unpack(key)[0] for key in self._outer.keys()]  # noqa: SIM118 # no dict


class BalancingTarget:
    """:class:`axoneme.core.reconcile.Target`. ``on_gone`` hears of backends that left."""

    name = "services"
    at_once = 4

    def __init__(
        self,
        maps: Mapping[str, BpfMap],
        encoder: Encoder,
        tables: Tables,
        on_gone: Callable[[list[Backend]], object] | None = None,
    ) -> None:
        self._maps = {name: maps[name] for name in ORDER}
        self._encoder = encoder
        self._tables = tables
        self._on_gone = on_gone
        self._rows: dict[PortKey, ServicePort] = {}
        self._used: Counter[int] = Counter()
        """How many rows name a backend."""
        self._shared: Counter[bytes] = Counter()
        """How many name an address's rest (a frontend with port 0)."""

    def apply(self, upserts: Rows, deletes: Rows) -> dict[PortKey, Exception]:
        """Write what differs; a row that fails does not keep the others out."""
        changes = {k: (self._rows.get(k), row) for k, row in upserts.items()}
        try:
            self._change(changes, deletes)
        except AxonemeError:
            return self._one_by_one(changes, deletes)
        return {}

    def _one_by_one(
        self, changes: Mapping[PortKey, tuple[ServicePort | None, ServicePort]], deletes: Rows
    ) -> dict[PortKey, Exception]:
        failed: dict[PortKey, Exception] = {}
        for key, row in deletes.items():
            self._try(failed, key, {}, {key: row})
        for key, change in changes.items():
            self._try(failed, key, {key: change}, {})
        return failed

    def _try(self, failed: dict[PortKey, Exception], key: PortKey, changes: Any, gone: Any) -> None:
        try:
            self._change(changes, gone)
        except AxonemeError as error:
            failed[key] = error

    def _change(
        self, changes: Mapping[PortKey, tuple[ServicePort | None, ServicePort]], deletes: Rows
    ) -> None:
        write: Entries = {name: {} for name in ORDER}
        remove: Entries = {name: {} for name in ORDER}
        for before, after in changes.values():
            if before is None:
                self._encoder.add(after, write)
            else:
                old, new = self._encoder.entries(before), self._encoder.entries(after)
                _differences(old, new, write, remove)
        for key in deletes:
            if gone := self._rows.get(key):
                _differences(self._encoder.entries(gone), {n: {} for n in ORDER}, write, remove)
        for name in ORDER:
            self._maps[name].update_batch(write[name].items())
        lost = self._account(changes, deletes)
        for row in (after for _, after in changes.values()):
            self._make_tables(row)
        for name in reversed(ORDER):
            keys = [k for k in remove[name] if k not in write[name] and not self._named(name, k)]
            self._maps[name].delete_batch(keys)
        if lost and self._on_gone is not None:
            self._on_gone(lost)

    def _named(self, name: str, key: bytes) -> int:
        """How many rows name an entry that several may."""
        if name == BACKENDS:
            return self._used[_WORD.unpack(key)[0]]
        return self._shared[key]

    def _account(
        self, changes: Mapping[PortKey, tuple[ServicePort | None, ServicePort]], deletes: Rows
    ) -> list[Backend]:
        """Keep count; the backends that nobody names any more."""
        left: dict[int, Backend] = {}
        for key, (before, after) in changes.items():
            self._count(after, 1)
            if before is not None:
                self._count(before, -1)
                left.update({b.id: b for b in before.backends})
            self._rows[key] = after
        for key in deletes:
            if gone := self._rows.pop(key, None):
                self._count(gone, -1)
                left.update({b.id: b for b in gone.backends})
                self._drop_tables(gone)
        return [backend for number, backend in left.items() if not self._used[number]]

    def _count(self, row: ServicePort, by: int) -> None:
        used = self._used
        for backend in row.backends:
            used[backend.id] += by
        for raw in self._encoder.rests(row):
            self._shared[raw] += by

    def _make_tables(self, row: ServicePort) -> None:
        if row.algorithm != "maglev":
            self._drop_tables(row)
            return
        outside = [f for f in row.frontends if f.key.address is not None]
        for number, chosen, local in (
            (row.set_all, row.chosen, False),
            (row.set_local, row.chosen_local, True),
        ):
            if any(f.local_out == local for f in outside):
                self._tables.put(number, chosen)
            else:
                self._tables.drop(number)

    def _drop_tables(self, row: ServicePort) -> None:
        self._tables.drop(row.set_all)
        self._tables.drop(row.set_local)

    def resync(self, desired: Rows) -> dict[PortKey, Exception]:
        """Read all maps, write what differs, sweep what no row stands for."""
        self._rows, self._used, self._shared = {}, Counter(), Counter()
        wanted: Entries = {name: {} for name in ORDER}
        for key, row in desired.items():
            for name, entries in self._encoder.entries(row).items():
                wanted[name].update(entries)
            self._count(row, 1)
            self._rows[key] = row
        stray: dict[str, list[bytes]] = {}
        failed: dict[PortKey, Exception] = {}
        lost: list[Backend] = []
        for name in ORDER:
            present = dict(self._maps[name].items())
            changed = [(k, v) for k, v in wanted[name].items() if present.get(k) != v]
            stray[name] = [k for k in present if k not in wanted[name]]
            if not self._write(name, changed):
                return self._rewrite(desired)
            if name == BACKENDS:
                lost = [self._encoder.backend(k, present[k]) for k in stray[name]]
            if changed or stray[name]:
                log.info("map repaired", extra={"map": name, "written": len(changed),
                                                "swept": len(stray[name])})  # fmt: skip
        self._tables.review(n for r in desired.values() for n in (r.set_all, r.set_local))
        for row in desired.values():
            self._make_tables(row)
        self._tables.sweep()
        for name in reversed(ORDER):
            self._maps[name].delete_batch(stray[name])
        if lost and self._on_gone is not None:
            self._on_gone(lost)
        return failed

    def _write(self, name: str, pairs: list[tuple[bytes, bytes]]) -> bool:
        try:
            self._maps[name].update_batch(pairs)
        except AxonemeError:
            return False
        return True

    def _rewrite(self, desired: Rows) -> dict[PortKey, Exception]:
        """There is no room for all: as many as fit, row by row, and say which do not."""
        self._rows, self._used, self._shared = {}, Counter(), Counter()
        known = {key: (None, row) for key, row in desired.items()}
        return self._one_by_one(known, {})


def _differences(old: Entries, new: Entries, write: Entries, remove: Entries) -> None:
    for name in ORDER:
        before, after = old[name], new[name]
        write[name].update({k: v for k, v in after.items() if before.get(k) != v})
        remove[name].update({k: v for k, v in before.items() if k not in after})


__all__ = ["MAGLEV", "BalancingTarget", "Tables"]
