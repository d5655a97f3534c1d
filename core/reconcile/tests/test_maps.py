"""Rows into a map: batches, what shares an entry, what nobody stands for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import frozen

from axoneme.core.errors import AxonemeError
from axoneme.core.reconcile.maps import MapTarget


@frozen
class Row:
    """A row whose name is the table's key and whose slot is the map's."""

    name: str
    slot: int
    value: int


class FakeMap(dict[int, int]):
    """A typed map; value 13 is refused, alone and in a batch."""

    def __setitem__(self, key: int, value: int) -> None:
        if value == 13:
            raise AxonemeError("no")
        super().__setitem__(key, value)

    def update_batch(self, entries: Iterable[tuple[int, int]]) -> None:
        for key, value in entries:
            self[key] = value

    def delete(self, key: int) -> bool:
        return self.pop(key, None) is not None

    def delete_batch(self, keys: Iterable[int]) -> None:
        for key in keys:
            self.pop(key, None)

    def items(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        return iter(list(super().items()))


def encode(row: Row) -> tuple[int, int]:
    """Slot and value; a negative value cannot be encoded."""
    if row.value < 0:
        raise AxonemeError(f"row {row.name} is negative")
    return row.slot, row.value


def target(entries: FakeMap, told: list[None] | None = None) -> MapTarget[str, Row]:
    """A target over the map; ``told`` grows when it says that the map has changed."""
    after: Any = None if told is None else lambda: told.append(None)
    return MapTarget("test", entries, encode, after=after)  # type: ignore[arg-type]


def test_an_entry_that_changes_hands_stays() -> None:
    """One row goes and another takes its entry, in one call: the entry is the new row's."""
    entries, told = FakeMap({1: 10}), list[None]()
    new, old = Row("new", 1, 11), Row("old", 1, 10)
    assert target(entries, told).apply({"new": new}, {"old": old}) == {}
    assert entries == {1: 11}
    assert target(entries, told).apply({}, {"new": new}) == {}
    assert entries == {} and len(told) == 2


def test_one_bad_row_keeps_no_other_out() -> None:
    """A batch that fails is tried row by row; a row that cannot be encoded is named."""
    entries = FakeMap()
    rows = {r.name: r for r in (Row("a", 1, 1), Row("b", 2, 13), Row("c", 3, 3), Row("d", 4, -1))}
    failed = target(entries).apply(rows, {})
    assert entries == {1: 1, 3: 3}
    assert sorted(failed) == ["b", "d"]


def test_a_full_pass_repairs_sweeps_and_speaks_only_of_changes() -> None:
    """What differs is written, what no row stands for goes; a map that is right is left alone."""
    entries, told = FakeMap({1: 1, 2: 99, 7: 7}), list[None]()
    rows = {"a": Row("a", 1, 1), "b": Row("b", 2, 2)}
    made = target(entries, told)
    assert made.resync(rows) == {}
    assert entries == {1: 1, 2: 2} and len(told) == 1
    assert made.resync(rows) == {}
    assert len(told) == 1


def test_the_first_full_pass_speaks_in_any_case() -> None:
    """Whoever wrote what is there may not have lived to tell."""
    entries, told = FakeMap({1: 1}), list[None]()
    made = target(entries, told)
    for _ in range(2):
        assert made.resync({"a": Row("a", 1, 1)}) == {}
        assert len(told) == 1
