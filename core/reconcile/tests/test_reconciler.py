"""Reconcilers: incremental, full, retries, waiting, and a target that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest
from attrs import frozen

from axoneme.core.reconcile import Reconciler, reconciler
from axoneme.core.state import Table


@frozen
class Row:
    name: str
    value: int = 0


class World:
    """A target that keeps what it is told in a dict and fails on demand."""

    name = "world"

    def __init__(self) -> None:
        self.content: dict[str, int] = {}
        self.bad: set[str] = set()
        self.broken = 0
        self.applies: list[tuple[dict[str, Row], dict[str, Row]]] = []
        self.resyncs = 0

    def _set(self, rows: Mapping[str, Row]) -> dict[str, Exception]:
        failed: dict[str, Exception] = {}
        for key, row in rows.items():
            if key in self.bad:
                failed[key] = ValueError(f"{key} is bad")
            else:
                self.content[key] = row.value
        return failed

    def apply(
        self, upserts: Mapping[str, Row], deletes: Mapping[str, Row]
    ) -> Mapping[str, Exception]:
        self.applies.append((dict(upserts), dict(deletes)))
        failed = self._set(upserts)
        for key in deletes:
            if key in self.bad:
                failed[key] = ValueError(f"{key} is bad")
            else:
                self.content.pop(key, None)
        return failed

    def resync(self, desired: Mapping[str, Row]) -> Mapping[str, Exception]:
        self.resyncs += 1
        if self.broken:
            self.broken -= 1
            raise OSError("world away")
        for key in [k for k in self.content if k not in desired]:
            del self.content[key]
        return self._set(desired)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry after milliseconds."""
    monkeypatch.setattr(reconciler, "FIRST_RETRY", 0.001)


Scenario = Callable[[Table[str, Row], World, Reconciler[str, Row]], Awaitable[None]]


def play(scenario: Scenario, world: World | None = None) -> None:
    async def main() -> None:
        target = world or World()
        table = Table("rows", Row, lambda r: r.name)
        table.upsert(Row("a", 1))
        loop = Reconciler("world", table, target)
        task = asyncio.create_task(loop.run())
        try:
            await asyncio.wait_for(scenario(table, target, loop), 10)
        finally:
            task.cancel()

    asyncio.run(main())


def test_first_pass_is_full_and_sweeps() -> None:
    """What is there from before and not desired goes; what is desired comes."""

    async def scenario(table: Table[str, Row], world: World, loop: Reconciler[str, Row]) -> None:
        await loop.sync()
        assert world.content == {"a": 1}
        assert loop.statuses["a"].state == "done"

    world = World()
    world.content["stale"] = 7
    play(scenario, world)


def test_changes_are_incremental_and_coalesced() -> None:
    """After the first pass only what changed is handed over, each key once."""

    async def scenario(table: Table[str, Row], world: World, loop: Reconciler[str, Row]) -> None:
        await loop.sync()
        for value in range(5):
            table.upsert(Row("b", value))
        table.delete("a")
        await loop.sync()
        assert world.content == {"b": 4}
        assert world.resyncs == 1
        assert world.applies == [({"b": Row("b", 4)}, {"a": Row("a", 1)})]

    play(scenario)


def test_bad_row_does_not_stop_the_others_and_is_retried() -> None:
    """The status names the error until the row succeeds."""

    async def scenario(table: Table[str, Row], world: World, loop: Reconciler[str, Row]) -> None:
        world.bad = {"b"}
        await loop.sync()
        table.upsert(Row("b", 2))
        table.upsert(Row("c", 3))
        errors = await loop.sync()
        assert errors == {"b": "b is bad"}
        assert world.content == {"a": 1, "c": 3}
        world.bad = set()
        while loop.errors:
            await asyncio.sleep(0.001)
        assert world.content["b"] == 2

    play(scenario)


def test_failed_delete_is_retried() -> None:
    """A row that could not be removed is tried again although the table forgot it."""

    async def scenario(table: Table[str, Row], world: World, loop: Reconciler[str, Row]) -> None:
        await loop.sync()
        world.bad = {"a"}
        table.delete("a")
        assert await loop.sync()
        world.bad = set()
        while "a" in world.content:
            await asyncio.sleep(0.001)
        assert loop.errors == {}

    play(scenario)


def test_broken_target_leads_to_a_full_pass() -> None:
    """When the target raises as a whole nothing is assumed: everything is compared again."""

    async def scenario(table: Table[str, Row], world: World, loop: Reconciler[str, Row]) -> None:
        await loop.sync()
        assert world.resyncs == 3
        assert world.content == {"a": 1}

    world = World()
    world.broken = 2
    play(scenario, world)


def test_full_pass_on_request_repairs_drift() -> None:
    """Somebody's meddling is undone by the next full pass."""

    async def scenario(table: Table[str, Row], world: World, loop: Reconciler[str, Row]) -> None:
        await loop.sync()
        world.content = {"foreign": 1}
        loop.request_full()
        while world.content != {"a": 1}:
            await asyncio.sleep(0.001)

    play(scenario)
