"""Agent's and operator's side of a node's object, over a folder and at a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from axoneme.core import options as core_options
from axoneme.core.boot import boot
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.devices import Device, NodeDevices
from axoneme.core.endpoints.pods import Pod, pod_tables
from axoneme.core.errors import AxonemeError, NotFoundError, PendingError
from axoneme.core.model.endpoint import AddressPair, AddressRequest
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.nodes.directory import node_tables
from axoneme.core.nodes.local import LocalNode
from axoneme.core.nodes.objects import decode_node
from axoneme.core.operator import Operator
from axoneme.core.services import Services
from axoneme.core.state import TableRegistry
from axoneme.core.status import StatusReport
from axoneme.core.store import FolderStore, Store
from axoneme.core.store.reflector import Reflector
from axoneme.core.tasks import TaskGroupRunner
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.operators import PATIENCE, eventually
from axoneme.plugins.ipam_multi_pool.config import register
from axoneme.plugins.ipam_multi_pool.source import PoolSource
from axoneme.plugins.ipam_multi_pool.status import report

OFF = "-policy -tunnel -masquerade -native-routing -lb-ipam -node-ipam -node-conditions"
POOLS = (
    "default=ipv4-cidrs:10.0.0.0/24;ipv4-mask-size:27;ipv6-cidrs:fd00::/64;ipv6-mask-size:80 "
    "blue=ipv4-cidrs:10.10.0.0/29;ipv4-mask-size:30;ipv6-cidrs:fd00:10::/64;ipv6-mask-size:80"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


class NodeBench:
    """The parts of an agent that talk about addresses, over a store of their own."""

    def __init__(self, name: str, store: Store) -> None:
        options = OptionRegistry()
        core_options.register(options)
        register(options)
        tables = TableRegistry()
        seen, _ = node_tables(tables)
        pods, spaces = pod_tables(tables)
        for table in (pods, spaces):
            table.mark_initialized()
        self.store = store
        self.node = LocalNode(name, store, seen, ipv4=True, ipv6=True)
        self.node.devices = NodeDevices((Device("eth0", 2, 1500, "02:00:00:00:00:01", ()),))
        self.ready = asyncio.Event()
        self.agent: Any = SimpleNamespace(
            config=Config.of(options), tables=tables, services=Services(), store=store,
            tasks=TaskGroupRunner(), reflectors=[], required=[], node=self.node, ready=self.ready,
        )  # fmt: skip
        agent: Any = self.agent
        self.source = PoolSource(agent)
        self.pods = pods
        reflector: Reflector[str, Node] = Reflector(
            store, "CiliumNode", seen, lambda obj: decode_node(obj, name)
        )
        self.agent.tasks.spawn("reflect CiliumNode", reflector.run)
        self.agent.tasks.spawn("keep", self._keep)

    async def _keep(self) -> None:
        await self.ready.wait()
        await self.node.keep()

    async def start(self) -> None:
        """As the agent does, until it is ready."""
        self.agent.tasks.start()
        for table in (self.agent.tables["nodes_seen"], *self.agent.required):
            await table.initialized.wait()
        self.agent.tables["nodes_seen"].flush()
        await self.node.publish()
        await self.node.wait_for_cidrs()

    async def stop(self) -> None:
        """Let go of everything."""
        await self.agent.tasks.stop()
        await self.store.close()

    def pod(self, name: str, **notes: str) -> AddressRequest:
        """What an ADD asks for."""
        marks = tuple((f"ipam.cilium.io/{k.replace('_', '-')}", v) for k, v in notes.items())
        self.pods.upsert(Pod("x", name, f"uid-{name}", self.node.name, annotations=marks))
        return AddressRequest(f"x/{name} c", True, True, None, marks, "x", name)

    async def add(self, request: AddressRequest) -> AddressPair:
        """An ADD that waits for what was asked for."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return self.source.allocate(request)
                except PendingError as error:
                    await error.arrival()

    async def blocks(self, pool: str) -> list[str]:
        """Of its object."""
        obj = await self.store.get(ObjectKey("CiliumNode", "", self.node.name))
        pools = obj.spec["ipam"].get("pools") or {}
        return [c for p in pools.get("allocated") or () if p["pool"] == pool for c in p["cidrs"]]


class World:
    """An operator that leads, and a store for users."""

    def __init__(self, opener: Callable[[], Store], operator: Operator) -> None:
        self.open = opener
        self.operator = operator
        self.store = opener()
        self.nodes: list[NodeBench] = []

    async def node(self, name: str, *, ready: bool = True) -> NodeBench:
        """A node that has started."""
        made = NodeBench(name, self.open())
        self.nodes.append(made)
        await asyncio.wait_for(made.start(), PATIENCE)
        if ready:
            made.ready.set()
        return made

    async def read(self, name: str) -> ClusterObject:
        """A CiliumNode."""
        return await self.store.get(ObjectKey("CiliumNode", "", name))

    async def error(self, name: str) -> str:
        """What the operator says about a node."""
        ipam = (await self.read(name)).status.get("ipam") or {}
        return str((ipam.get("operator-status") or {}).get("error") or "")

    async def until(self, true: Callable[[], Awaitable[object]]) -> None:
        """Wait until something is true."""
        async with asyncio.timeout(PATIENCE):
            while not await true():
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Everything."""
        for node in self.nodes:
            await node.stop()
        for kind in ("CiliumNode", "CiliumPodIPPool"):
            for obj in await self.store.list(kind):
                with suppress(NotFoundError):
                    await self.store.delete(obj.key)
        await self.store.close()


Run = Callable[[Callable[[World], Awaitable[None]]], None]


@pytest.fixture(
    params=["folder", pytest.param("kubernetes", marks=pytest.mark.needs("kubernetes"))]
)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a story."""
    keys = {
        "ipam": "multi-pool",
        "plugins": OFF,
        "store-path": str(tmp_path / "store"),
        "state-dir": str(tmp_path),
        "leader-election-retry-period": "0.1s",
        "auto-create-cilium-pod-ip-pools": POOLS,
    }

    def opener() -> Store:
        return FolderStore(tmp_path / "store")

    if request.param == "kubernetes":
        from axoneme.core.k8s.access import open_access
        from axoneme.core.k8s.store import KubernetesStore

        config = str(request.getfixturevalue("server").kubeconfig)
        keys |= {"store": "kubernetes", "k8s-kubeconfig-path": config}
        keys |= {"k8s-client-qps": "200", "k8s-client-burst": "400"}
        access = asyncio.run(open_access(config))

        def opener() -> Store:
            return KubernetesStore(access)

    async def whole(story: Callable[[World], Awaitable[None]]) -> None:
        operator = Operator(*boot(keys, {}))
        task = asyncio.create_task(operator.run())
        world = World(opener, operator)
        try:
            await eventually(lambda: operator.leading)
            await eventually(lambda: len(operator.tables["pod_ip_pools"]) == 2)
            await asyncio.wait_for(story(world), 90)
        finally:
            await world.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return lambda story: asyncio.run(whole(story))


def texts(pair: AddressPair) -> list[str]:
    return [str(a) for a in pair]


def test_blocks_come_with_pods_and_go_with_them(run: Run) -> None:
    """The operator makes the configured pools; two nodes share one without meeting."""

    async def story(world: World) -> None:
        one, two = await world.node("n1"), await world.node("n2")
        assert texts(await one.add(one.pod("a"))) == ["10.0.0.2", "fd00::2"]
        assert texts(await two.add(two.pod("a"))) == ["10.0.0.34", "fd00::1:0:0:2"]
        obj = await world.read("n1")
        assert {a["ip"] for a in obj.spec["addresses"]} >= {"10.0.0.1", "fd00::1"}
        assert await one.blocks("blue") == []
        blue = [await one.add(one.pod(f"b{n}", ip_pool="blue")) for n in range(2)]
        other = await two.add(two.pod("b", ipv4_pool="blue"))
        assert texts(other) == ["10.10.0.5", "fd00::1:0:0:3"]
        assert [texts(p)[0] for p in blue] == ["10.10.0.1", "10.10.0.2"]
        status = StatusReport()
        report(status, one.source)
        assert "blue IPv4 2/2 in 1 block" in dict(status.lines)["IPAM"]
        for number, pair in enumerate(blue):
            one.source.release(pair, f"x/b{number} c")

        async def given_up() -> bool:
            return not await one.blocks("blue")

        await world.until(given_up)
        third = await two.add(two.pod("c", ipv4_pool="blue"))
        last = await two.add(two.pod("d", ipv4_pool="blue"))
        assert [texts(p)[0] for p in (third, last)] == ["10.10.0.6", "10.10.0.1"]

    run(story)


def test_an_exhausted_pool_is_told_on_both_sides(run: Run) -> None:
    """In the node's status, in the pod's error, in the agent's status; more blocks end it."""

    async def story(world: World) -> None:
        one = await world.node("n1")
        for number in range(4):
            await one.add(one.pod(f"b{number}", ipv4_pool="blue"))
        late = one.pod("late", ipv4_pool="blue")
        with pytest.raises(PendingError, match=r"no address left in pool blue \(IPv4\)"):
            one.source.allocate(late)
        await eventually(lambda: "all 2 are in use" in one.source.word)
        with pytest.raises(PendingError, match=r"no /30 block left in 10\.10\.0\.0/29"):
            one.source.allocate(late)
        assert "CiliumPodIPPool blue: no /30 block left" in await world.error("n1")
        status = StatusReport()
        report(status, one.source)
        assert "1 pods wait, such as x/late for pool blue" in status.problems[0].message
        cidrs = ["10.10.0.0/29", "10.11.0.0/29"]
        blue = ObjectKey("CiliumPodIPPool", "", "blue")
        await world.store.patch(blue, {"spec": {"ipv4": {"cidrs": cidrs}}})
        assert texts(await one.add(late))[0] == "10.11.0.1"

        async def quiet() -> bool:
            return not await world.error("n1")

        await world.until(quiet)

    run(story)


def test_wishes_that_nobody_can_grant_name_the_reason(run: Run) -> None:
    """A pool that is missing, unreadable or without the family; the pod's end ends its wish."""

    async def story(world: World) -> None:
        one = await world.node("n1")
        with pytest.raises(AxonemeError, match="there is no CiliumPodIPPool red"):
            one.source.allocate(one.pod("a", ip_pool="red"))
        red = {
            "apiVersion": "cilium.io/v2alpha1",
            "kind": "CiliumPodIPPool",
            "metadata": {"name": "red"},
            "spec": {"ipv4": {"cidrs": ["10.20.0.0/24"], "maskSize": 16}},
        }
        await world.store.create(red)
        await eventually(lambda: one.agent.reflectors[0].errors)
        with pytest.raises(AxonemeError, match=r"red: spec\.ipv4\.maskSize: 16 does not fit"):
            one.source.allocate(one.pod("a", ip_pool="red"))
        await world.store.patch(
            ObjectKey("CiliumPodIPPool", "", "red"), {"spec": {"ipv4": {"maskSize": 28}}}
        )
        await eventually(lambda: "red" in one.source.pools)
        with pytest.raises(AxonemeError, match="CiliumPodIPPool red has no ipv6"):
            one.source.allocate(one.pod("a", ip_pool="red"))
        pair = await one.add(one.pod("a", ipv4_pool="red"))
        assert texts(pair)[0] == "10.20.0.1"
        for number in range(4):
            await one.add(one.pod(f"b{number}", ipv4_pool="blue"))
        with suppress(PendingError):
            one.source.allocate(one.pod("late", ipv4_pool="blue"))
        await eventually(lambda: one.source.word)
        one.pods.delete(("x", "late"))
        await eventually(lambda: not one.source.allocator.waiting)

    run(story)


def test_a_restart_gives_up_nothing_before_it_knows_what_is_in_use(run: Run) -> None:
    """Then what is empty. The router keeps its address; another node cannot get it meanwhile."""

    async def story(world: World) -> None:
        one = await world.node("n1")
        pair = await one.add(one.pod("b0", ipv4_pool="blue"))
        routers = one.node.routers
        await one.stop()
        world.nodes.remove(one)
        again = await world.node("n1", ready=False)
        await again.node.publish()
        assert await again.blocks("blue") == ["10.10.0.0/30"]
        assert again.node.routers == routers
        claimed = AddressRequest("x/b0 c", True, True, wanted=pair)
        assert again.source.allocate(claimed) == pair
        again.ready.set()
        other = await again.add(again.pod("b1", ipv4_pool="blue"))
        assert texts(other)[0] == "10.10.0.2"
        await again.stop()
        world.nodes.remove(again)
        third = await world.node("n1")  # no endpoint is restored

        async def empty() -> bool:
            return not await third.blocks("blue")

        await world.until(empty)
        assert third.node.routers == routers

    run(story)


def test_an_object_that_is_deleted_comes_back_with_its_blocks(run: Run) -> None:
    """Pods live in them; nobody else gets them afterwards."""

    async def story(world: World) -> None:
        one = await world.node("n1")
        await one.add(one.pod("b0", ip_pool="blue"))
        before = {p: await one.blocks(p) for p in ("default", "blue")}
        await world.store.delete(ObjectKey("CiliumNode", "", "n1"))

        async def back() -> bool:
            with suppress(NotFoundError):
                return {p: await one.blocks(p) for p in before} == before
            return False

        await world.until(back)
        two = await world.node("n2")
        pair = await two.add(two.pod("b", ip_pool="blue"))
        assert texts(pair) == ["10.10.0.5", "fd00:10::1:0:0:1"]
        spec = (await world.read("n1")).spec
        assert "podCIDRs" not in spec["ipam"]

    run(story)


def test_blocks_of_a_node_that_cannot_be_read_stay_its_own(run: Run) -> None:
    """Neither a bad field nor a gone pool gives them to others."""

    async def story(world: World) -> None:
        allocated: list[Mapping[str, Any]] = [
            {"pool": "blue", "cidrs": ["10.10.0.0/30", "nonsense"]}
        ]
        body = {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNode",
            "metadata": {"name": "odd"},
            "spec": {"ipam": {"pools": {"allocated": allocated}}},
        }
        await world.store.create(body)
        one = await world.node("n1")
        pair = await one.add(one.pod("b", ipv4_pool="blue"))
        assert texts(pair)[0] == "10.10.0.5"
        await world.store.delete(ObjectKey("CiliumPodIPPool", "", "blue"))
        await eventually(lambda: "blue" not in one.source.pools)
        assert await one.blocks("blue") == ["10.10.0.4/30"]
        with pytest.raises(PendingError, match="there is no CiliumPodIPPool blue"):
            one.source.allocate(one.pod("c", ipv4_pool="blue"))

    run(story)
