"""Prefixes with labels from several sources: which identity they have, when, and what is freed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from ipaddress import ip_network

import pytest

from axoneme.core.errors import DatapathError, ExhaustedError
from axoneme.core.identities.local import LocalIdentities
from axoneme.core.identities.table import identity_table
from axoneme.core.ipcache.ipcache import Ipcache, ipcache_table
from axoneme.core.model.labels import Label, LabelSet
from axoneme.core.state import TableRegistry
from axoneme.plugins.policy import cidrs
from axoneme.plugins.policy.cidrs import PrefixIdentities
from axoneme.plugins.policy.selectors import Prefix

NAME = frozenset({Label("fqdn", "a.test")})
OTHER = frozenset({Label("fqdn", "*.test")})
ONE, TWO = ip_network("10.1.2.3/32"), ip_network("10.1.2.4/32")
SIX = ip_network("2001:db8::1/128")


class World:
    """Identities, ipcache and a kernel that takes policy only when the test says so."""

    def __init__(self) -> None:
        tables = TableRegistry()
        self.identities = identity_table(tables)
        self.ipcache = Ipcache(ipcache_table(tables))
        self.local = LocalIdentities(self.identities)
        self.gate = asyncio.Event()
        self.gate.set()
        self.realised = 0
        self.broken = False
        self.prefixes = PrefixIdentities(self, self.ipcache, self._realised, told=self._told)
        self.prefixes.live = True

    def allocate_local(self, labels: LabelSet) -> int:
        return self.local.allocate(labels)

    def release_local(self, number: int) -> bool:
        return self.local.release(number)

    async def _realised(self) -> None:
        await self.gate.wait()
        if self.broken:
            raise DatapathError("the kernel is full")
        self.realised += 1

    async def _told(self) -> None:
        """The table is all there is."""

    def labels(self, prefix: Prefix) -> list[str] | None:
        """What the ipcache says of a prefix."""
        entry = self.ipcache.table.get(prefix)
        if entry is None:
            return None
        row = self.identities.get(entry.identity)
        return row.labels.texts() if row is not None else []


def play(work: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        task = asyncio.create_task(world.prefixes.run())
        try:
            await asyncio.wait_for(work(world), 10)
        finally:
            task.cancel()

    asyncio.run(main())


def test_labels_add_up() -> None:
    """Names of two sources, the rule's prefix around, the world of the family."""

    async def work(world: World) -> None:
        world.prefixes.put("fqdn", {ONE: NAME, SIX: NAME})
        await world.prefixes.programmed()
        assert world.labels(ONE) == ["fqdn:a.test", "reserved:world", "reserved:world-ipv4"]
        assert world.labels(SIX) == ["fqdn:a.test", "reserved:world", "reserved:world-ipv6"]
        world.prefixes.acquire([ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16")])
        world.prefixes.put("other", {ONE: OTHER})
        await world.prefixes.programmed()
        found = world.labels(ONE)
        assert found is not None and {"cidr:10.1.0.0/16", "fqdn:*.test", "fqdn:a.test"} < set(found)
        assert "cidr:10.0.0.0/8" not in found
        world.prefixes.release([ip_network("10.1.0.0/16")])
        await world.prefixes.programmed()
        assert "cidr:10.0.0.0/8" in (world.labels(ONE) or [])

    play(work)


def test_addresses_of_one_name_share_an_identity() -> None:
    """The second address of a name is told without waiting for policy."""

    async def work(world: World) -> None:
        world.prefixes.put("fqdn", {ONE: NAME})
        await world.prefixes.programmed()
        world.gate.clear()
        world.prefixes.put("fqdn", {TWO: NAME})
        await world.prefixes.programmed()
        table = world.ipcache.table
        assert table.get(ONE).identity == table.get(TWO).identity  # type: ignore[union-attr]
        assert world.realised == 1

    play(work)


def test_a_new_identity_waits_for_its_policy() -> None:
    """Until then the prefix is what it was."""

    async def work(world: World) -> None:
        world.prefixes.put("fqdn", {ONE: NAME})
        await world.prefixes.programmed()
        before = world.labels(ONE)
        world.gate.clear()
        world.prefixes.put("fqdn", {ONE: OTHER})
        await asyncio.sleep(0.01)
        assert world.labels(ONE) == before
        world.prefixes.put("fqdn", {ONE: NAME | OTHER})
        await asyncio.sleep(0.01)
        assert world.labels(ONE) == before
        world.gate.set()
        await world.prefixes.programmed()
        assert world.labels(ONE) != before and "fqdn:*.test" in (world.labels(ONE) or [])

    play(work)


def test_all_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source whose labels need one number too many changes nothing."""

    async def work(world: World) -> None:
        world.prefixes.put("fqdn", {ONE: NAME})
        allocate = world.local.allocate

        def short(labels: LabelSet) -> int:
            if labels.get("reserved", "world-ipv6") is not None:
                raise ExhaustedError("no local identity left")
            return allocate(labels)

        monkeypatch.setattr(world.local, "allocate", short)
        with pytest.raises(ExhaustedError):
            world.prefixes.put("fqdn", {ONE: OTHER, SIX: OTHER})
        await world.prefixes.programmed()
        assert "fqdn:a.test" in (world.labels(ONE) or []) and world.labels(SIX) is None

    play(work)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_left(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was said and taken back in whatever order: no identity, no prefix stays; meanwhile
    no prefix ever has a number that stands for nothing."""
    monkeypatch.setattr(cidrs, "LINGER", 0.01)
    chance = random.Random(seed)
    ruled = [ip_network(p) for p in ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "2001:db8::/32")]

    async def work(world: World) -> None:
        named: list[Prefix] = []
        for _ in range(150):
            match chance.randrange(5):
                case 0:
                    said = chance.choice([NAME, OTHER, NAME | OTHER])
                    world.prefixes.put(chance.choice("ab"), {chance.choice([ONE, TWO, SIX]): said})
                case 1:
                    world.prefixes.drop(chance.choice("ab"), [chance.choice([ONE, TWO, SIX])])
                case 2:
                    named.append(chance.choice(ruled))
                    world.prefixes.acquire(named[-1:])
                case 3 if named:
                    world.prefixes.release([named.pop(chance.randrange(len(named)))])
                case _:
                    world.gate.set() if chance.random() < 0.5 else world.gate.clear()
            await asyncio.sleep(chance.choice([0, 0, 0.002]))
            for entry in world.ipcache.table:
                assert entry.identity in world.identities
        world.gate.set()
        world.prefixes.release(named)
        for source in "ab":
            world.prefixes.drop(source, [ONE, TWO, SIX])
        await asyncio.sleep(0.05)
        assert len(world.ipcache.table) == 0 and len(world.prefixes) == 0
        assert [r.id for r in world.identities if r.source == "cidr"] == []

    play(work)


def test_a_kernel_that_will_not_take_policy_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prefixes wait on, also those that have changed meanwhile, and nothing is lost."""
    monkeypatch.setattr(cidrs, "RETRY", 0.001)
    monkeypatch.setattr(cidrs, "LINGER", 0.01)

    async def work(world: World) -> None:
        world.broken = True
        world.prefixes.acquire([ONE])
        await asyncio.sleep(0.005)
        world.prefixes.put("a", {ONE: NAME})
        await asyncio.sleep(0.005)
        assert world.labels(ONE) is None
        world.broken = False
        await world.prefixes.programmed()
        labels = world.labels(ONE)
        assert labels is not None and "fqdn:a.test" in labels
        world.prefixes.drop("a", [ONE])
        world.prefixes.release([ONE])
        await asyncio.sleep(0.05)
        assert [r.id for r in world.identities if r.source == "cidr"] == []

    play(work)
