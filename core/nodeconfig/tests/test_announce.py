"""Events of configuration drift at a real API server, with an agent's rights and without."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.k8s.access import open_access
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.nodeconfig.announce import LONGEST, DriftEvents, event
from axoneme.core.nodeconfig.drift import Drift
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.operators import eventually

pytestmark = pytest.mark.needs("kubernetes")

SETUP = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: agent, namespace: kube-system}
"""
RIGHTS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: agent-events, namespace: default}
rules: [{apiGroups: [""], resources: [events], verbs: [create, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: agent-events, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: agent-events}
subjects: [{kind: ServiceAccount, name: agent, namespace: kube-system}]
"""


def drift(key: str, wanted: str = "9", problem: str = "") -> Drift:
    return Drift(key, "1", wanted, "ConfigMap kube-system/axoneme-config", problem)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("events")) as running:
        running.kubectl("apply", "-f", "-", text=SETUP)
        running.kubectl("create", "serviceaccount", "default", "-n", "default")
        yield running


class Agent:
    """The writer of one agent, with the rights of its account."""

    def __init__(self, server: ApiServer, store: KubernetesStore, node: str) -> None:
        self.node, self.events = node, DriftEvents(store, node)
        self._server, self._store = server, store

    def has_told(self, keys: list[str]) -> bool:
        """Whether it has done what it can about these keys."""
        return self.events._told == set(keys)

    async def said(self) -> list[dict[str, Any]]:
        """Events of the node, as its reader finds them."""
        text = await asyncio.to_thread(
            self._server.kubectl, "get", "events", "-o", "json",
            "--field-selector", f"involvedObject.name={self.node},reason=ConfigDrift",
        )  # fmt: skip
        return sorted(json.loads(text)["items"], key=lambda e: e["message"])

    async def until(self, *wanted: tuple[str, int]) -> None:
        """Wait for these words in messages, and these counts."""
        found: list[dict[str, Any]] = []
        for _ in range(100):
            found = await self.said()
            pairs = zip(found, wanted, strict=False)
            if len(found) == len(wanted) and all(
                word in e["message"] and e["count"] == count for e, (word, count) in pairs
            ):
                return
            await asyncio.sleep(0.1)
        raise AssertionError([(e["message"], e["count"]) for e in found])


@asynccontextmanager
async def agent(server: ApiServer, folder: Path, node: str) -> AsyncIterator[Agent]:
    """One that runs."""
    create = ("create", "token", "agent", "-n", "kube-system")
    token = (await asyncio.to_thread(server.kubectl, *create)).strip()
    server.write_kubeconfig(folder / "kubeconfig", token)
    store = KubernetesStore(await open_access(str(folder / "kubeconfig")))
    made = Agent(server, store, node)
    task = asyncio.create_task(made.events.run())
    try:
        yield made
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


def test_without_the_right_there_is_one_warning(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever drifts afterwards; the agent goes on."""

    async def work() -> None:
        async with agent(server, tmp_path, "node1") as made:
            for keys in (["mtu"], ["mtu", "ipam"], ["ipam"]):
                made.events.tell([drift(key) for key in keys])
                await eventually(partial(made.has_told, keys))
            assert await made.said() == []

    with caplog.at_level(logging.WARNING):
        asyncio.run(asyncio.wait_for(work(), 60))
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "the API server refuses" in record.__dict__["error"]


def test_one_event_for_each_set_of_keys(server: ApiServer, tmp_path: Path) -> None:
    """Not one for each look; what comes back, after a restart too, is counted or said again."""
    server.kubectl("apply", "-f", "-", text=RIGHTS)

    async def work() -> None:
        async with agent(server, tmp_path, "node2") as made:
            tell = made.events.tell
            tell([drift("mtu")])
            await made.until(("waits for a restart: mtu (", 1))
            (first,) = await made.said()
            assert first["involvedObject"]["kind"] == "Node" and first["type"] == "Warning"
            assert first["source"] == {"component": "axoneme-agent", "host": "node2"}
            for wanted in "23456":  # other values of the same keys
                tell([drift("mtu", wanted)])
                await asyncio.sleep(0.05)
            tell([drift("ipam"), drift("mtu")])
            await made.until(("restart: ipam, mtu", 1), ("restart: mtu", 1))
            tell([])
            tell([drift("mtu")])
            await made.until(("restart: ipam, mtu", 1), ("restart: mtu", 2))
        async with agent(server, tmp_path, "node2") as made:
            made.events.tell([drift("mtu", problem="bad")])  # the same keys, another reason
            await made.until(("not taken: mtu", 2), ("restart: ipam, mtu", 1))
            delete = ("delete", "event", first["metadata"]["name"], "-n", "default")
            await asyncio.to_thread(server.kubectl, *delete)
            made.events.tell([])
            await eventually(lambda: not made.events._told)
            made.events.tell([drift("mtu")])
            await made.until(("restart: ipam, mtu", 1), ("restart: mtu", 1))

    asyncio.run(asyncio.wait_for(work(), 90))


def test_names_and_messages_fit() -> None:
    """Whatever the node is called and however much differs."""
    many = tuple(drift(f"key-{'x' * 60}-{n}") for n in range(200))
    body = event("n" * 199 + "." + "n" * 53, many)
    assert len(body["message"]) <= LONGEST and "and 190 more" in body["message"]
    assert len(body["metadata"]["name"]) <= 253 and ".." not in body["metadata"]["name"]
    assert event("a", many[:1])["metadata"]["name"] != event("a", many[:2])["metadata"]["name"]
