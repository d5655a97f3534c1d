"""Pinned maps: adopt, migrate, or replace, and never serve one that does not match.

A map ``axo_x`` is pinned at ``maps/axo_x``. Beside it the same map is pinned a second time under
a name that holds a hash of its schema (type, sizes, flags and the names and types of all
fields): ``schemas/axo_x-<hash>``. Both vanish together when the machine boots, so the mark cannot
outlive the map. The schema's text is kept in the cache folder, under its hash, for migration.

When the wanted schema differs, a new map is made and filled from the old one, if the layouts
agree by field names; else it starts empty. The pin is replaced by a rename, in one step, and only
after every program has passed the verifier: a refused program leaves everything as it was.
Programs that are still attached write to the old map until they are replaced, so what they
added meanwhile is copied once more by :meth:`PinStore.catch_up`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs
from attrs import define, frozen

from axoneme.core.datapath.layouts import Layout
from axoneme.core.datapath.loader import create_map
from axoneme.core.datapath.maps import NOEXIST, BpfMap
from axoneme.core.datapath.objects import OF_MAPS_TYPES, MapDef
from axoneme.core.errors import DatapathError, ExhaustedError, NotFoundError

log = logging.getLogger(__name__)

Entry = tuple[bytes, bytes]
Convert = Callable[[Iterable[Entry]], Iterable[Entry]]


def schema_text(definition: MapDef, inner: MapDef | None = None) -> str:
    """What must be equal for a map to be served, as canonical JSON."""
    rows = [attrs.asdict(definition, recurse=False)]
    if inner is not None:
        rows.append(attrs.asdict(inner, recurse=False))
    return json.dumps(rows, sort_keys=True)


def schema_hash(text: str) -> str:
    """Twelve hexadecimal digits; pin names may not hold a dot."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@frozen
class Migration:
    """A map that was replaced, while old programs may still write to it."""

    name: str
    old: BpfMap
    new: BpfMap
    convert: Convert


@define
class PinStore:
    """The pins of one agent: ``root`` is ``<bpf-root>/axoneme``, ``texts`` keeps schemas."""

    root: Path
    texts: Path
    migrations: list[Migration] = attrs.field(factory=list)
    _pending: list[tuple[BpfMap, str, str]] = attrs.field(factory=list)

    def open_all(
        self, definitions: Mapping[str, MapDef], templates: set[str], maps: dict[str, BpfMap]
    ) -> None:
        """Add maps for all definitions: adopted, or new and filled; pinned by :meth:`commit`.

        ``templates`` name maps that only say what inner maps look like: made, not pinned.
        """
        (self.root / "maps").mkdir(parents=True, exist_ok=True)
        (self.root / "schemas").mkdir(parents=True, exist_ok=True)
        for definition in sorted(definitions.values(), key=lambda d: d.type in OF_MAPS_TYPES):
            if definition.name in templates:
                maps[definition.name] = create_map(definition, maps)
                continue
            inner = definitions.get(definition.inner)
            maps[definition.name] = self._open(definition, inner, maps)

    def _open(self, definition: MapDef, inner: MapDef | None, maps: Mapping[str, BpfMap]) -> BpfMap:
        text = schema_text(definition, inner)
        mark = f"{definition.name}-{schema_hash(text)}"
        old = self._pinned(definition.name)
        if old is not None and self._matches(old, definition, mark):
            old.definition = definition
            return old
        new = create_map(definition, maps)
        self._pending.append((new, mark, text))
        if old is not None:
            self._migrate(old, new, definition, inner)
        return new

    def _pinned(self, name: str) -> BpfMap | None:
        try:
            return BpfMap.open(self.root / "maps" / name)
        except NotFoundError:
            return None
        except OSError as exc:  # not a map: somebody else's object under our name
            log.warning("pin is not a map, replacing it", extra={"map": name, "error": str(exc)})
            return None

    def _matches(self, old: BpfMap, definition: MapDef, mark: str) -> bool:
        try:
            with BpfMap.open(self.root / "schemas" / mark) as marked:
                same = marked.info.id == old.info.id
        except NotFoundError:
            return False
        wanted = (definition.type, definition.key_size, definition.value_size, definition.flags)
        info = old.info
        return same and wanted == (info.type, info.key_size, info.value_size, info.flags)

    def _old_definitions(self, name: str, old: BpfMap) -> list[MapDef]:
        """What the old map's mark says about its layout; empty if nothing does."""
        for mark in (self.root / "schemas").glob(f"{name}-*"):
            text = self.texts / f"{mark.name.rpartition('-')[2]}.json"
            with BpfMap.open(mark) as marked:
                if marked.info.id == old.info.id and text.is_file():
                    return [MapDef(**row) for row in json.loads(text.read_text())]
        return []

    def _migrate(self, old: BpfMap, new: BpfMap, definition: MapDef, inner: MapDef | None) -> None:
        before = self._old_definitions(definition.name, old)
        convert = None
        if before and before[1:] == ([inner] if inner else []):
            convert = converter(before[0], definition)
        if convert is None:
            log.warning(
                "map layout changed, starting empty",
                extra={"map": definition.name, "known": bool(before)},
            )
            old.close()
            return
        copied = _copy(old, new, convert)
        log.info("map migrated", extra={"map": definition.name, "entries": copied})
        self.migrations.append(Migration(definition.name, old, new, convert))

    def commit(self) -> None:
        """Pin what is new, in place of what is there."""
        self.texts.mkdir(parents=True, exist_ok=True)
        for new, mark, text in self._pending:
            path = self.texts / f"{mark.rpartition('-')[2]}.json"
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(text)
            temporary.replace(path)
            # The mark first: killed in between, the pin still is the old map with its old mark.
            pin_over(new, self.root / "schemas" / mark)
            pin_over(new, self.root / "maps" / new.name)
        self._pending.clear()

    def rollback(self) -> None:
        """Forget what was not committed; old pins are untouched."""
        self._pending.clear()
        self.finish()

    def catch_up(self) -> int:
        """Copy what old programs added to replaced maps; call when all are replaced."""
        return sum(_copy(m.old, m.new, m.convert, NOEXIST) for m in self.migrations)

    def finish(self) -> None:
        """Close the replaced maps."""
        for migration in self.migrations:
            migration.old.close()
        self.migrations.clear()

    def sweep(self, wanted: Mapping[str, BpfMap]) -> list[str]:
        """Remove pins that belong to no wanted map; returns the names of removed maps."""
        removed = []
        for pin in (self.root / "maps").iterdir():
            if pin.name not in wanted:
                pin.unlink()
                removed.append(pin.name)
        ids = {m.info.id for m in wanted.values()}
        for mark in (self.root / "schemas").iterdir():
            with BpfMap.open(mark) as marked:
                keep = marked.info.id in ids
            if not keep:
                mark.unlink()
        return removed


def pin_over(bpf_map: BpfMap, path: Path) -> None:
    """Pin, replacing what is pinned there in one step."""
    fresh = path.with_name(f"{path.name}_new")
    fresh.unlink(missing_ok=True)
    bpf_map.pin(fresh)
    fresh.rename(path)


def _copy(old: BpfMap, new: BpfMap, convert: Convert, flags: int = 0) -> int:
    """Copy entries; a full target keeps what fits."""
    entries = list(convert(old.items()))
    if not flags:
        try:
            new.update_batch(entries)
        except ExhaustedError:
            log.warning("map is smaller than what it held", extra={"map": new.name})
        return len(entries)
    copied = 0
    for key, value in entries:
        try:
            new.update(key, value, flags)
            copied += 1
        except DatapathError:  # there already
            continue
    return copied


def converter(old: MapDef, new: MapDef) -> Convert | None:
    """How to turn old entries into new ones; ``None`` if the layouts do not agree."""
    if old.type != new.type or not new.key_size:
        return None
    if (old.key_desc, old.value_desc) == (new.key_desc, new.value_desc):
        return _same
    if new.type in OF_MAPS_TYPES:
        return None
    key = _moves(old.key, new.key)
    value = _moves(old.value, new.value)
    names = {f.name for f in new.key.fields if not f.padding}
    if key is None or value is None or {f.name for f in old.key.fields if not f.padding} != names:
        return None
    slots = max(BpfMap.slots(new.type), 1)

    def convert(entries: Iterable[Entry]) -> Iterable[Entry]:
        for raw_key, raw_value in entries:
            yield (
                _apply(key, raw_key, new.key_size),
                b"".join(
                    _apply(
                        value, part, -(-new.value_size // 8) * 8 if slots > 1 else new.value_size
                    )
                    for part in _parts(raw_value, slots)
                ),
            )

    return convert


def _same(entries: Iterable[Entry]) -> Iterable[Entry]:
    return entries


def _parts(raw: bytes, count: int) -> list[bytes]:
    size = len(raw) // count
    return [raw[i * size : (i + 1) * size] for i in range(count)]


def _moves(old: Layout, new: Layout) -> list[tuple[int, int, int]] | None:
    """``(from, to, size)`` of fields of the same name; ``None`` if one changed its shape."""
    before = {f.name: f for f in old.fields if not f.padding}
    moves = []
    for field in new.fields:
        was = before.get(field.name)
        if field.padding or was is None:
            continue
        same = (was.size, was.kind, was.count, was.struct) == (
            field.size,
            field.kind,
            field.count,
            field.struct,
        )
        if not same or field.kind == "bits":
            return None
        moves.append((was.offset, field.offset, field.size))
    return moves


def _apply(moves: list[tuple[int, int, int]], raw: bytes, size: int) -> bytes:
    result = bytearray(size)
    for source, target, length in moves:
        result[target : target + length] = raw[source : source + length]
    return bytes(result)
