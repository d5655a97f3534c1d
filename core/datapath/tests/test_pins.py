"""Pinned maps: adopted when equal, migrated when compatible, else replaced; never mismatched."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import attrs
import pytest

from axoneme.core.datapath.maps import BpfMap
from axoneme.core.datapath.objects import MAP_TYPES, MapDef
from axoneme.core.datapath.pins import PinStore

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: CAP_BPF"),
]

U32, U64 = "unsigned int", "unsigned long long"


def definition(fields: list[list[Any]], *, entries: int = 16, kind: str = "hash") -> MapDef:
    size = sum({U32: 4, U64: 8}[f[1]] for f in fields)
    value = ["v", fields, "struct_packed"]
    return MapDef("axo_t", MAP_TYPES[kind], 4, size, entries, 0, "", U32, value)


OLD = definition([["a", U32], ["b", U32]])


class Pins:
    """Starts of an agent over one root."""

    def __init__(self, root: Path, texts: Path) -> None:
        self.root, self.texts = root / "axoneme", texts

    def open(self, wanted: MapDef) -> tuple[PinStore, BpfMap]:
        store = PinStore(self.root, self.texts)
        maps: dict[str, BpfMap] = {}
        store.open_all({wanted.name: wanted}, set(), maps)
        return store, maps[wanted.name]

    def start(self, wanted: MapDef) -> BpfMap:
        store, made = self.open(wanted)
        store.commit()
        store.finish()
        store.sweep({wanted.name: made})
        return made


@pytest.fixture
def pins(bpf_root: Path, tmp_path: Path) -> Pins:
    return Pins(bpf_root, tmp_path)


def test_equal_schema_is_adopted_with_its_entries(pins: Pins) -> None:
    """A restart finds the same map."""
    first = pins.start(OLD)
    first.update(bytes(4), struct.pack("=II", 1, 2))
    second = pins.start(OLD)
    assert second.info.id == first.info.id
    assert second.lookup(bytes(4)) == struct.pack("=II", 1, 2)


def test_new_field_migrates_entries_by_name(pins: Pins) -> None:
    """Moved fields keep their values, new ones are zero, dropped ones go."""
    first = pins.start(OLD)
    first.update(bytes(4), struct.pack("=II", 1, 2))
    new = pins.start(definition([["b", U32], ["c", U64], ["a", U32]]))
    assert new.info.id != first.info.id
    assert new.lookup(bytes(4)) == struct.pack("=IQI", 2, 0, 1)
    assert BpfMap.open(pins.root / "maps/axo_t").info.id == new.info.id


def test_same_sizes_with_other_fields_are_not_served(pins: Pins) -> None:
    """The kernel sees no difference, the schema does: a and b changed places."""
    pins.start(OLD).update(bytes(4), struct.pack("=II", 1, 2))
    new = pins.start(definition([["b", U32], ["a", U32]]))
    assert new.lookup(bytes(4)) == struct.pack("=II", 2, 1)


def test_field_that_changed_its_size_starts_empty(pins: Pins) -> None:
    """What cannot be converted with certainty is not."""
    pins.start(OLD).update(bytes(4), bytes(8))
    new = pins.start(definition([["a", U64], ["b", U32]]))
    assert list(new.items()) == []
    assert new.info.value_size == 12


def test_resize_keeps_entries(pins: Pins) -> None:
    """More entries by configuration is a migration of equal layouts."""
    pins.start(OLD).update(bytes(4), struct.pack("=II", 1, 2))
    new = pins.start(attrs.evolve(OLD, max_entries=64))
    assert new.info.max_entries == 64
    assert new.lookup(bytes(4)) == struct.pack("=II", 1, 2)


def test_foreign_map_under_our_name_is_replaced(pins: Pins) -> None:
    """A pin without our mark is not trusted, whatever its shape."""
    with BpfMap.create("hash", 4, 8, 16) as foreign:
        foreign.update(bytes(4), bytes(8))
        foreign.pin(pins.root / "maps/axo_t")
    new = pins.start(OLD)
    assert list(new.items()) == []


def test_mark_of_another_map_proves_nothing(pins: Pins) -> None:
    """The mark of the wanted schema is there, but the pin was replaced by somebody's map."""
    pins.start(OLD)
    (pins.root / "maps/axo_t").unlink()
    with BpfMap.create("hash", 4, 8, 16) as foreign:
        foreign.update(bytes(4), bytes(8))
        foreign.pin(pins.root / "maps/axo_t")
        new = pins.start(OLD)
        assert new.info.id != foreign.info.id
    assert list(new.items()) == []


def test_lost_schema_text_starts_empty(pins: Pins) -> None:
    """Without the text of the old layout nothing can be converted by name."""
    pins.start(OLD).update(bytes(4), bytes(8))
    for text in pins.texts.iterdir():
        text.unlink()
    assert list(pins.start(definition([["b", U32], ["a", U32]])).items()) == []


def test_nothing_changes_before_commit(pins: Pins) -> None:
    """A refused program must leave the pin of the running datapath alone."""
    first = pins.start(OLD)
    store, _ = pins.open(definition([["a", U32], ["b", U32], ["c", U32]]))
    store.rollback()
    assert BpfMap.open(pins.root / "maps/axo_t").info.id == first.info.id
    assert pins.start(OLD).info.id == first.info.id


def test_entries_of_old_programs_are_caught_up(pins: Pins) -> None:
    """What was written to the old map before the switch arrives, and overwrites nothing."""
    first = pins.start(OLD)
    first.update(bytes(4), struct.pack("=II", 1, 1))
    store, new = pins.open(attrs.evolve(OLD, max_entries=64))
    store.commit()
    first.update(bytes(4), struct.pack("=II", 9, 9))
    first.update(b"\1\0\0\0", struct.pack("=II", 2, 2))
    assert store.catch_up() == 1
    assert dict(new.items()) == {
        bytes(4): struct.pack("=II", 1, 1),
        b"\1\0\0\0": struct.pack("=II", 2, 2),
    }


def test_per_cpu_values_migrate(pins: Pins) -> None:
    """Each CPU's slot is converted."""
    old = definition([["a", U32], ["b", U32]], kind="percpu_hash")
    first = pins.start(old)
    slots = first.percpu
    first.update(bytes(4), b"".join(struct.pack("=II", cpu, 7) for cpu in range(slots)))
    new = pins.start(definition([["b", U32], ["a", U32], ["c", U32]], kind="percpu_hash"))
    raw = new.lookup(bytes(4))
    assert raw is not None
    assert new.cpu_values(raw) == [struct.pack("=III", 7, cpu, 0) for cpu in range(slots)]


def test_sweep_removes_maps_of_disabled_features(pins: Pins) -> None:
    """A map that nobody declares any more loses its pin and its mark."""
    pins.start(OLD)
    other = attrs.evolve(OLD, name="axo_other")
    pins.start(other)
    assert sorted(p.name for p in (pins.root / "maps").iterdir()) == ["axo_other"]
    assert len(list((pins.root / "schemas").iterdir())) == 1
