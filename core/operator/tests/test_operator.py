"""What the operator removes, and what it must not."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from axoneme.core.errors import NotFoundError
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ObjectKey
from axoneme.core.operator.collect import Collector
from axoneme.core.operator.operator import LEASE, Operator
from axoneme.core.state import Table
from axoneme.core.store.folder import FolderStore
from axoneme.core.testing.operators import OperatorBench

KEY = ObjectKey("CiliumEndpoint", "red", "web-0")


def endpoint(uid: str, node: str) -> dict[str, Any]:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": KEY.name, "uid": uid}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": KEY.kind,
        "metadata": {"namespace": "red", "name": KEY.name, "ownerReferences": [owner]},
        "status": {"networking": {"node": node}},
    }


def pod(uid: str) -> dict[str, Any]:
    metadata = {"namespace": "red", "name": KEY.name, "uid": uid}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}


class Bench:
    def __init__(self, folder: Path) -> None:
        self.store = FolderStore(folder)
        self.nodes: Table[str, Node] = Table("nodes_seen", Node, key=lambda r: r.name)
        self.nodes.mark_initialized()
        self.nodes.upsert(Node("n2", IPv4Address("172.18.0.3")))
        self.errors: dict[ObjectKey, str] = {}
        objects = SimpleNamespace(errors=self.errors)
        operator: Any = SimpleNamespace(store=self.store, nodes=self.nodes, node_objects=objects)
        self.collector = Collector(operator)


def test_object_that_is_written_again_meanwhile_stays(tmp_path: Path) -> None:
    """Between the look and the deletion the pod's new node may have taken the name."""

    async def work() -> None:
        bench = Bench(tmp_path)
        store = bench.store
        await store.create(pod("uid-2"))
        await store.create(endpoint("uid-1", "172.18.0.3"))
        await bench.collector.endpoints()
        listed = await store.list("CiliumEndpoint")
        await store.delete(KEY)
        await store.create(endpoint("uid-2", "172.18.0.3"))
        plain = store.list

        async def late(kind: str) -> Any:
            return listed if kind == "CiliumEndpoint" else await plain(kind)

        store.list = late  # type: ignore[method-assign]
        await bench.collector.endpoints()
        assert (await store.get(KEY)).status == endpoint("uid-2", "172.18.0.3")["status"]
        await store.close()

    asyncio.run(work())


def test_endpoints_of_a_node_that_nobody_can_read_stay(tmp_path: Path) -> None:
    """A bad CiliumNode is not a node that is gone."""

    async def work() -> None:
        bench = Bench(tmp_path)
        await bench.store.create(pod("uid-1"))
        await bench.store.create(endpoint("uid-1", "172.18.0.9"))
        bench.errors[ObjectKey("CiliumNode", "", "n9")] = "bad address"
        for _ in range(3):
            await bench.collector.endpoints()
        await bench.store.get(KEY)
        bench.errors.clear()
        for _ in range(2):
            await bench.collector.endpoints()
        with pytest.raises(NotFoundError):
            await bench.store.get(KEY)
        await bench.store.close()

    asyncio.run(work())


def test_a_cilium_node_goes_with_the_node_that_owned_it(tmp_path: Path) -> None:
    """Seen twice: a Node that is gone, or another one of its name. What nobody owns stays."""

    async def work() -> None:
        bench = Bench(tmp_path)
        for name in ("there", "again"):
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
            await bench.store.create(node)
        uid = (await bench.store.get(ObjectKey("Node", "", "there"))).uid
        for name, owner in (("there", uid), ("again", "of-before"), ("gone", "x"), ("own", "")):
            metadata: dict[str, Any] = {"name": name}
            if owner:
                reference = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": owner}
                metadata["ownerReferences"] = [reference]
            body = {"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": metadata}
            await bench.store.create({**body, "spec": {}})
        for left in ({"there", "again", "gone", "own"}, {"there", "own"}):
            await bench.collector.nodes()
            assert {o.key.name for o in await bench.store.list("CiliumNode")} == left
        await bench.store.close()

    asyncio.run(work())


def test_only_its_own_lease_is_given_back(tmp_path: Path) -> None:
    """An operator that slept through its lease must not delete the one of its successor."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        operator: Any = SimpleNamespace(store=store, identity="one")
        key = ObjectKey("Lease", "kube-system", LEASE)
        await store.acquire_lease(LEASE, "two", 15)
        await Operator._give_back(operator)
        await store.get(key)
        operator.identity = "two"
        await Operator._give_back(operator)
        with pytest.raises(NotFoundError):
            await store.get(key)
        await store.close()

    asyncio.run(work())


def test_metrics_are_served_when_asked_for(tmp_path: Path) -> None:
    """Port 0 takes a free one; a port that is taken stops nothing."""

    async def work() -> None:
        bench = OperatorBench(tmp_path, enable_metrics="true", operator_api_serve_addr="")
        async with bench.running(operator_prometheus_serve_addr="127.0.0.1:0") as operator:
            operator.metrics.gauge("something", "Of a test").set(3)
            port = operator._servers[0].port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"axoneme_something 3.0" in await reader.read()
            writer.close()
            taken = f"127.0.0.1:{port}"
            async with OperatorBench(
                tmp_path / "b", enable_metrics="true", operator_api_serve_addr=""
            ).running(operator_prometheus_serve_addr=taken) as other:
                assert not other._servers and other.leading

    asyncio.run(asyncio.wait_for(work(), 60))


def test_health_is_served(tmp_path: Path) -> None:
    """200 while all is well, 503 with the reason once work of the leader has ended for good."""

    async def work() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        bench = OperatorBench(tmp_path, operator_api_serve_addr=f"localhost:{port}")
        async with bench.running() as operator:

            async def ask() -> bytes:
                (server,) = operator._servers
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = await reader.read()
                writer.close()
                return answer

            assert b"200 OK" in await ask()
            assert operator._runner is not None
            state = next(iter(operator._runner.states.values()))
            state.state = "failed"
            answer = await ask()
            assert b"503" in answer and f"tasks failed: {state.name}".encode() in answer

    asyncio.run(asyncio.wait_for(work(), 60))
