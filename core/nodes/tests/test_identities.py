"""Numbers of nodes: which, when another one counts, and that none is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address

import pytest
from attrs import evolve

from axoneme.core.errors import DatapathError
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.identities.table import identity_table
from axoneme.core.model.identity import REMOTE_NODE_SCOPE, Reserved
from axoneme.core.model.node import Node
from axoneme.core.nodes import identities as tested
from axoneme.core.nodes.directory import node_tables
from axoneme.core.nodes.identities import NodeIdentities
from axoneme.core.state import TableRegistry

ONE, TWO = IPv4Address("172.18.0.2"), IPv4Address("172.18.0.3")
ZONE_A, ZONE_B = (("zone", "a"),), (("zone", "b"),)


class World:
    """Nodes, identities and a kernel that takes policy when the test says so."""

    def __init__(self, *, labels: bool = True, patterns: tuple[str, ...] = ()) -> None:
        tables = TableRegistry()
        self.identities = identity_table(tables)
        _, self.nodes = node_tables(tables)
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = 0
        self.told: list[str] = []
        self.tested = NodeIdentities(
            self.identities,
            self.nodes,
            remote_labels=labels,
            host_labels=False,
            chosen=LabelFilter.of_nodes(patterns),
            realised=self._realised,
        )
        self.tested.on_change(self.told.append)

    async def _realised(self) -> None:
        await self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise DatapathError("full")

    async def put(self, *nodes: Node) -> None:
        for node in nodes:
            self.nodes.upsert(node)
        await asyncio.sleep(0.005)

    def texts(self, name: str) -> list[str]:
        """Labels of the number that a node has."""
        node = self.nodes.get(name)
        assert node is not None
        row = self.identities.get(self.tested.number(node))
        assert row is not None
        return row.labels.texts()

    def of_nodes(self) -> list[int]:
        return [r.id for r in self.identities if r.source == "node"]


HERE = Node("n1", ipv4=ONE, local=True, labels=ZONE_A)
THERE = Node("n2", ipv4=TWO, labels=ZONE_A)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a story in a loop, where numbers linger for a moment only."""
    monkeypatch.setattr(tested, "LINGER", 0.01)

    def run(story: Callable[[World], Awaitable[None]], **given: object) -> None:
        async def within() -> None:
            await story(World(**given))  # type: ignore[arg-type]

        asyncio.run(within())

    return run


def test_labels_make_numbers(play: Callable[..., None]) -> None:
    """Nodes with the same labels share one; this node is the host and has its labels too."""

    async def story(world: World) -> None:
        twin = evolve(THERE, name="n3", ipv4=IPv4Address("172.18.0.4"))
        await world.put(HERE, THERE, twin)
        assert world.tested.number(HERE) == Reserved.HOST
        assert world.texts("n1") == ["node:zone=a", "reserved:host"]
        assert world.texts("n2") == ["node:zone=a", "reserved:remote-node"]
        assert world.tested.number(THERE) == world.tested.number(twin) > REMOTE_NODE_SCOPE
        world.nodes.delete("n2")
        world.nodes.delete("n3")
        await asyncio.sleep(0.05)
        assert world.of_nodes() == []

    play(story)


def test_another_number_counts_when_its_policy_is_there(play: Callable[..., None]) -> None:
    """Until then the old one does, also when the first try fails; then it goes."""

    async def story(world: World) -> None:
        await world.put(THERE)
        before = world.tested.number(THERE)
        world.gate.clear()
        changed = evolve(THERE, labels=ZONE_B)
        await world.put(changed)
        assert world.tested.number(changed) == before and world.told == []
        assert len(world.of_nodes()) == 2
        world.gate.set()
        await asyncio.sleep(0.05)
        assert world.texts("n2") == ["node:zone=b", "reserved:remote-node"]
        assert world.told == ["n2"] and world.of_nodes() == [world.tested.number(changed)]

    play(story)


def test_there_and_back(play: Callable[..., None]) -> None:
    """Labels that return before the other number counts leave nothing behind."""

    async def story(world: World) -> None:
        await world.put(THERE)
        world.gate.clear()
        for labels in (ZONE_B, ZONE_A, ZONE_B, ZONE_A):
            await world.put(evolve(THERE, labels=labels))
        world.gate.set()
        await asyncio.sleep(0.05)
        assert world.told == [] and world.of_nodes() == [world.tested.number(THERE)]
        world.nodes.delete("n2")
        await asyncio.sleep(0.05)
        assert world.of_nodes() == []

    play(story)


def test_a_node_with_an_api_server(play: Callable[..., None]) -> None:
    """Without labels it is 7, else one of its own; the host is told too; and back."""

    async def story(world: World) -> None:
        await world.put(HERE, THERE)
        assert world.tested.number(THERE) == Reserved.REMOTE_NODE
        world.tested.set_apiservers([ONE, TWO])
        await asyncio.sleep(0.01)
        assert world.tested.number(THERE) == Reserved.KUBE_APISERVER
        assert world.texts("n1") == ["reserved:host", "reserved:kube-apiserver"]
        assert world.texts("n2") == ["reserved:kube-apiserver", "reserved:remote-node"]
        world.tested.set_apiservers([])
        await asyncio.sleep(0.01)
        assert world.texts("n1") == ["reserved:host"]
        assert world.texts("n2") == ["reserved:remote-node"] and world.told == ["n2", "n2"]

    play(story, labels=False)


def test_which_labels_count(play: Callable[..., None]) -> None:
    """``node-labels`` includes and leaves out by prefix."""

    async def story(world: World) -> None:
        every = (("other", "x"), ("zone", "a"), ("zone.beta", "b"))
        await world.put(evolve(THERE, labels=every))
        assert world.texts("n2") == ["node:zone=a", "reserved:remote-node"]

    play(story, patterns=("zone", r"!zone\.beta"))
