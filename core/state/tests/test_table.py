"""Tables: keys, indexes, revisions, coalesced watches."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from axoneme.core.errors import AxonemeError, NotFoundError
from axoneme.core.state import Changes, Table, TableRegistry


@frozen
class Row:
    name: str
    colour: str = "red"
    address: IPv4Address | None = None


def make() -> Table[str, Row]:
    return Table("rows", Row, lambda r: r.name, {"colour": lambda r: [r.colour]})


def test_an_equal_row_changes_nothing() -> None:
    """Writing the same row again leaves the revision alone and wakes nobody."""
    table = make()
    assert table.upsert(Row("a"))
    revision = table.revision
    assert not table.upsert(Row("a"))
    assert table.revision == revision


def test_index_follows_updates_and_deletes() -> None:
    """A row is found under its present index value only."""
    table = make()
    table.upsert(Row("a", "red"))
    table.upsert(Row("a", "blue"))
    assert table.find("colour", "red") == []
    assert table.find("colour", "blue") == [Row("a", "blue")]
    table.delete("a")
    assert table.find("colour", "blue") == []
    with pytest.raises(KeyError):
        table.find("size", 1)


def test_replace_touches_only_what_it_selects() -> None:
    """``where`` limits which rows may be removed."""
    table = make()
    for row in (Row("a", "red"), Row("b", "red"), Row("c", "blue")):
        table.upsert(row)
    table.replace([Row("b", "red")], where=lambda r: r.colour == "red")
    assert sorted(r.name for r in table) == ["b", "c"]


def test_first_next_yields_everything_even_when_empty() -> None:
    """A watcher starts from the whole content, so there is no separate list step to race with."""

    async def main() -> None:
        assert not await make().watch().next()
        table = make()
        table.upsert(Row("a"))
        watch = table.watch()
        assert (await watch.next()).upserted == {"a": Row("a")}

    asyncio.run(main())


def test_slow_watcher_sees_last_state_only() -> None:
    """Changes coalesce by key; a deletion hides the updates before it."""

    async def main() -> None:
        table = make()
        watch = table.watch()
        await watch.next()
        table.upsert(Row("a", "red"))
        table.upsert(Row("a", "blue"))
        table.upsert(Row("b"))
        table.delete("b")
        changes = await watch.next()
        assert changes.upserted == {"a": Row("a", "blue")}
        assert changes.deleted == {"b": Row("b")}
        assert changes.revision == table.revision

    asyncio.run(main())


def test_transaction_is_one_change() -> None:
    """A subscriber is called once for a transaction, after its end."""

    async def main() -> None:
        table = make()
        seen: list[Changes[str, Row]] = []
        table.subscribe(seen.append)
        with table.transaction():
            table.upsert(Row("a"))
            table.flush()
            table.upsert(Row("b"))
        assert seen == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [sorted(c.upserted) for c in seen] == [["a", "b"]]

    asyncio.run(main())


def test_next_waits_for_a_change() -> None:
    """``next`` sleeps until something happens, and a closed watch hears nothing."""

    async def main() -> None:
        table = make()
        watch, closed = table.watch(), table.watch()
        await watch.next()
        closed.close()
        waiting = asyncio.ensure_future(watch.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        table.upsert(Row("a"))
        assert (await waiting).upserted == {"a": Row("a")}
        assert not closed.take()

    asyncio.run(main())


_steps = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["red", "blue", ""])))


@given(_steps, st.lists(st.booleans(), max_size=40))
def test_any_reader_can_rebuild_the_table(steps: list[tuple[str, str]], reads: list[bool]) -> None:
    """Applying every batch a watcher gets, whenever it reads, yields the table's content."""

    async def main() -> None:
        table = make()
        watch = table.watch()
        mirror: dict[str, Row] = {}
        for number, (name, colour) in enumerate(steps):
            table.upsert(Row(name, colour)) if colour else table.delete(name)
            if number < len(reads) and reads[number]:
                apply(mirror, watch.take())
        apply(mirror, watch.take())
        assert mirror == dict(table.items())

    def apply(mirror: dict[str, Row], changes: Changes[str, Row]) -> None:
        mirror.update(changes.upserted)
        for key in changes.deleted:
            mirror.pop(key, None)

    asyncio.run(main())


def test_registry_prints_any_table_as_plain_data() -> None:
    """Addresses become text; an unknown or double name is a clear error."""
    tables = TableRegistry()
    table = tables.create("rows", Row, key=lambda r: r.name)
    table.upsert(Row("a", address=IPv4Address("192.0.2.1")))
    assert tables.rows_as_dicts("rows") == [{"name": "a", "colour": "red", "address": "192.0.2.1"}]
    with pytest.raises(NotFoundError, match="rowz"):
        tables.rows_as_dicts("rowz")
    with pytest.raises(AxonemeError, match="exists"):
        tables.create("rows", Row, key=lambda r: r.name)


def test_subscriber_that_raises_costs_the_others_nothing() -> None:
    """What it was told is gone for good; those after it, and watches, hear of it all the same."""

    async def work() -> None:
        table = make()
        heard: list[Changes[str, Row]] = []

        def broken(_: Changes[str, Row]) -> None:
            raise RuntimeError("no")

        table.subscribe(broken)
        table.subscribe(heard.append)
        with table.watch() as watch:
            await watch.next()
            table.upsert(Row("a"))
            assert "a" in (await watch.next()).upserted
        assert ["a" in c.upserted for c in heard] == [True]

    asyncio.run(work())


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sets(st.sampled_from("xyz")))))
def test_an_index_finds_what_a_search_does(steps: list[tuple[str, set[str]]]) -> None:
    """Whether none, one or many have a value, and after any changes; an empty set deletes."""
    table: Table[str, tuple[str, tuple[str, ...]]] = Table(
        "rows", tuple, lambda r: r[0], {"value": lambda r: r[1]}
    )
    for key, values in steps:
        if values:
            table.upsert((key, tuple(sorted(values))))
        else:
            table.delete(key)
        for value in "xyz":
            expected = {r for r in table if value in r[1]}
            assert set(table.find("value", value)) == expected
            assert len(table.find("value", value)) == len(expected)
    for key in "abcd":
        table.delete(key)
    assert not any(table._buckets["value"].values())
