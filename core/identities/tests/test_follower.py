"""An agent that waits for the operator's identities."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from axoneme.core.errors import ConfigError, NotReadyError
from axoneme.core.identities.allocator import IdentityAllocator
from axoneme.core.identities.follower import IdentityFollower
from axoneme.core.identities.table import identity_table
from axoneme.core.model.identity import Identity
from axoneme.core.model.labels import Label, LabelSet
from axoneme.core.state import TableRegistry

WEB = LabelSet.parse(["k8s:app=web"])
DB = LabelSet.parse(["k8s:app=db"])


class Agent:
    """Allocator and follower over one table."""

    def __init__(self, patience: float = 10) -> None:
        self.table = identity_table(TableRegistry())
        self.follower = IdentityFollower(self.table, patience=patience)
        self.allocator = IdentityAllocator(self.table, self.follower)
        self.lost: list[int] = []
        self.allocator.on_lost(self.lost.append)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(main())


async def turns(count: int = 5) -> None:
    """Let what is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_new_label_set_is_waited_for() -> None:
    """Reserved and known ones are not."""

    async def work() -> None:
        agent = Agent()
        assert await agent.allocator.allocate(LabelSet.parse(["reserved:init"])) == 5
        agent.table.upsert(Identity(300, DB))
        assert await agent.allocator.allocate(DB) == 300
        waiting = asyncio.ensure_future(agent.allocator.allocate(WEB))
        await turns()
        assert not waiting.done() and list(agent.follower.waiting) == [WEB]
        agent.table.upsert(Identity(301, WEB))
        assert await waiting == 301
        assert not agent.follower.waiting and agent.allocator.in_use == {300, 301}

    run(work)


def test_what_does_not_come_is_an_error_that_says_who_has_to_act() -> None:
    """It names the labels, and may be tried again."""

    async def work() -> None:
        agent = Agent(patience=0.01)
        with pytest.raises(NotReadyError, match=r"operator .* k8s:app=web") as error:
            await agent.allocator.allocate(WEB)
        assert "identity-management-mode" in (error.value.hint or "")
        assert not agent.follower.waiting and agent.allocator.in_use == set()

    run(work)


def test_a_server_that_is_away_is_not_waited_for() -> None:
    """A restored endpoint keeps what it has, unless that is known to be somebody else's."""

    async def work() -> None:
        agent = Agent()
        agent.follower.away = lambda: "the server is away"
        with pytest.raises(NotReadyError, match=r"k8s:app=web, and the server is away"):
            await agent.allocator.allocate(WEB)
        agent.table.upsert(Identity(301, DB))
        assert not agent.allocator.adopt(301, WEB)
        assert agent.allocator.adopt(300, WEB)
        assert agent.allocator.in_use == {300} and agent.allocator.labels_of(300) == WEB
        await turns()
        agent.table.upsert(Identity(300, DB))  # what is heard later
        await turns()
        assert agent.lost == [300]

    run(work)


def test_a_number_that_vanishes_is_kept_until_there_is_another() -> None:
    """The same one comes back: nothing happens. Another one: users are told."""

    async def work() -> None:
        agent = Agent()
        agent.table.upsert(Identity(300, WEB))
        await agent.allocator.allocate(WEB)
        for number, lost in ((300, []), (301, [300])):
            agent.table.delete(300)
            await turns()
            assert agent.allocator.stands_for(300, WEB) and not agent.lost
            agent.table.upsert(Identity(number, WEB))
            await turns()
            assert agent.lost == lost
        assert not agent.allocator.stands_for(300, WEB)
        assert await agent.allocator.allocate(WEB) == 301

    run(work)


def test_a_number_that_goes_to_other_labels_is_left_at_once() -> None:
    """Also when nothing stands for the labels yet: it would be somebody else's identity."""

    async def work() -> None:
        agent = Agent()
        agent.table.upsert(Identity(300, WEB))
        await agent.allocator.allocate(WEB)
        agent.table.upsert(Identity(300, DB))
        await turns()
        assert agent.lost == [300] and not agent.allocator.stands_for(300, WEB)

    run(work)


def test_those_who_wait_for_one_label_set_wait_beside_each_other() -> None:
    """Each for its own patience: twenty pods of a deployment fail together, not one by one."""

    async def work() -> None:
        agent = Agent()
        asked = [asyncio.ensure_future(agent.allocator.allocate(WEB)) for _ in range(20)]
        await turns()
        assert agent.follower._callers == {WEB: 20}
        agent.table.upsert(Identity(300, WEB))
        assert set(await asyncio.gather(*asked)) == {300}
        for _ in asked:
            assert agent.allocator.in_use == {300}
            agent.allocator.release(300)
        assert not agent.allocator.in_use and not agent.follower.waiting

    run(work)


def test_who_takes_a_number_over_does_not_hide_it_from_those_who_had_it() -> None:
    """Also when the new labels are asked for before the change has been spread."""

    async def work() -> None:
        agent = Agent()
        agent.table.upsert(Identity(300, WEB))
        await agent.allocator.allocate(WEB)
        agent.table.flush()
        agent.table.upsert(Identity(300, DB))
        assert await agent.allocator.allocate(DB) == 300  # before any watcher has heard of it
        await turns()
        assert agent.lost and set(agent.lost) == {300}

    run(work)


def test_nobody_waits_for_an_identity_whose_last_user_is_gone() -> None:
    """A status would name labels for ever that no endpoint has."""

    async def work() -> None:
        agent = Agent()
        agent.table.upsert(Identity(300, WEB))
        await agent.allocator.allocate(WEB)
        agent.table.delete(300)
        await turns()
        assert list(agent.follower.waiting) == [WEB]
        agent.allocator.release(300)
        await turns()
        assert not agent.follower.waiting

    run(work)


def test_labels_are_compared_not_their_text() -> None:
    """A value that spells another label's text, as a folder allows it, is no such label."""

    async def work() -> None:
        agent = Agent(patience=0.01)
        both = LabelSet.parse(["k8s:app=web", "k8s:team=admin"])
        forged = LabelSet.of([Label("k8s", "app", "web;k8s:team=admin")])
        assert both.key_string() == forged.key_string()
        agent.table.upsert(Identity(300, both))
        with pytest.raises(NotReadyError):
            await agent.allocator.allocate(forged)

    run(work)


def test_an_agent_stops_while_it_waits() -> None:
    """For an identity that nobody may ever make again."""

    async def work() -> None:
        agent = Agent()
        agent.table.upsert(Identity(300, WEB))
        await agent.allocator.allocate(WEB)
        agent.table.delete(300)
        await turns()
        await agent.allocator.close()
        assert not agent.lost

    run(work)


def test_a_plugin_that_labels_on_nodes_contradicts_the_mode() -> None:
    """The operator would never make those identities."""
    from axoneme.core.boot import boot
    from axoneme.core.identities.modes import numbers_of_agent
    from axoneme.core.store.open import open_store

    config, plugins = boot({"identity-management-mode": "operator"}, {})
    table = identity_table(TableRegistry())
    store = open_store(config, plugins)
    assert numbers_of_agent(config, [], store, table).follows
    with pytest.raises(ConfigError, match=r"identity-management-mode.*zoned") as error:
        numbers_of_agent(config, ["zoned"], store, table)
    assert "axoneme_label_pod" in (error.value.hint or "")
