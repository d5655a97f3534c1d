"""Whatever changes in whatever order, the kernel's maps end as a fresh computation has them.

A manager with the real target and real maps; policies go through a folder store, pods, labels and
modes come as in an agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from axoneme.core.model.identity import Identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.testing.packets import PacketBench
from axoneme.plugins.policy.datapath import PolicyMaps
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.prefixes import facts_of
from axoneme.plugins.policy.subjects import Settings
from axoneme.plugins.policy.tables import KNOWN
from axoneme.plugins.policy.tests.strategies import PODS, policies
from axoneme.plugins.policy.tests.test_manager import Node
from axoneme.plugins.policy.tests.world import decode, pod_labels
from tests.policy.agreement import RELAXED, cluster_policies
from tests.policy.program import registry

pytestmark = pytest.mark.root

Step = tuple[Any, ...]
FIRST = 256
SLOTS = 4
"""Names of policies; a policy of another kind under one is another object."""


def steps() -> st.SearchStrategy[list[Step]]:
    """Changes: of policies, of who is here, of labels, of the mode."""
    slot = st.integers(0, SLOTS - 1)
    policy = slot.flatmap(lambda n: policies(n) | cluster_policies(n))
    labels = st.sampled_from([*PODS, None])
    pods = st.integers(0, len(PODS) - 1)
    return st.lists(
        st.tuples(st.just("apply"), policy)
        | st.tuples(st.just("delete"), slot)
        | st.tuples(st.just("here"), pods, st.booleans())
        | st.tuples(st.just("labels"), pods, labels)
        | st.tuples(st.just("mode"), st.sampled_from(["default", "always", "never"])),
        min_size=3,
        max_size=12,
    )


class World:
    """A manager over real maps, and a record of what has been asked of it."""

    def __init__(self, folder: Path, maps: PolicyMaps) -> None:
        self.node = Node(folder, maps=maps)
        self.maps = maps
        self.mode = "default"
        self.manifests: dict[ObjectKey, dict[str, Any]] = {}
        self.here: set[int] = set()
        for number, pod in enumerate(PODS):
            self.node.identities.upsert(Identity(FIRST + number, pod_labels(pod)))

    async def do(self, step: Step) -> None:
        word, *arguments = step
        await getattr(self, f"_{word}")(*arguments)
        await self.node.manager.realised()
        self.compare()

    async def _apply(self, manifest: dict[str, Any]) -> None:
        metadata = manifest["metadata"]
        key = ObjectKey(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        self.manifests[key] = manifest
        await self.node.store.apply(manifest)
        await self._taken(key)

    async def _delete(self, slot: int) -> None:
        for key in [k for k in self.manifests if k.name in (f"p{slot}", f"c{slot}")]:
            del self.manifests[key]
            await self.node.store.delete(key)
            await self._taken(key)

    async def _here(self, pod: int, here: bool) -> None:
        if here:
            self.node.endpoint(pod + 1, FIRST + pod)
            self.here.add(pod)
        elif pod in self.here:
            self.node.endpoints.delete(pod + 1)
            self.here.discard(pod)
        self.node.endpoints.flush()

    async def _labels(self, number: int, like: Any) -> None:
        labels = pod_labels(like) if like is not None else LabelSet.parse(["k8s:app=other"])
        self.node.identities.upsert(Identity(FIRST + number, labels))

    async def _mode(self, mode: str) -> None:
        self.mode = mode
        engine = self.node.manager.engine
        engine.set_settings(evolve(engine.settings, mode=mode))
        self.node.manager.changed()

    async def _taken(self, key: ObjectKey) -> None:
        """Until the manager has read the object as it is now."""
        manifest = self.manifests.get(key)
        wanted = set(decode(manifest)) if manifest is not None else set()
        engine = self.node.manager.engine
        await self.node.until(lambda: {r for _, k, r in engine.rules() if k == key} == wanted)

    def compare(self) -> None:
        """Every subject's trie, and the marks of known peers."""
        fresh = PolicyEngine(Settings(mode=self.mode))
        rows = self.node.identities.rows()
        for row in rows:
            fresh.upsert_identity(row.id, *facts_of(row))
        for pod in self.here:
            fresh.set_subject(FIRST + pod, [()])
        for key, manifest in self.manifests.items():
            fresh.set_rules(key, decode(manifest))
        fresh.flush()
        for pod in self.here:
            assert self.maps.read(FIRST + pod) == fresh.entries(FIRST + pod), pod
        known = self.maps.read(KNOWN)
        assert known is not None
        assert {key.peer for key in known} == {row.id for row in rows}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PacketBench]:
    """The pods' programs, for their maps."""
    with PacketBench(registry(), cache_dir=tmp_path_factory.mktemp("axot-incremental")) as loaded:
        yield loaded


@settings(max_examples=40, deadline=None, suppress_health_check=RELAXED)
@given(listed=steps())
def test_the_kernel_has_what_a_fresh_computation_says(
    bench: PacketBench, listed: list[Step]
) -> None:
    """After every single step."""
    definition = bench.maps["axoscratch_policy"].definition
    assert definition is not None
    layouts = definition.key, definition.value
    generation = count(1)
    maps = PolicyMaps(
        lambda: bench.maps["axo_policy"],
        lambda: layouts,
        lambda: bench.runtime("POLICY_GEN", next(generation)),
        16384,
    )

    async def scenario(folder: Path) -> None:
        world = World(folder, maps)
        async with asyncio.timeout(60), world.node:
            for step in listed:
                await world.do(step)

    with TemporaryDirectory(prefix="axot-") as folder:
        asyncio.run(scenario(Path(folder)))
    maps.resync({})
