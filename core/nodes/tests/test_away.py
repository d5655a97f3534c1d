"""This node while the store is away: its addresses and ranges are those that were saved."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path

import pytest

from axoneme.core.devices import Device, NodeDevices
from axoneme.core.errors import StoreError
from axoneme.core.model.objects import ObjectKey
from axoneme.core.nodes.directory import node_tables
from axoneme.core.nodes.local import LocalNode
from axoneme.core.nodes.objects import decode_node
from axoneme.core.state import TableRegistry
from axoneme.core.store.reflector import Reflector
from axoneme.core.testing.outage import AwayStore

ETH0 = Device(
    "eth0", 2, 1500, "02:00:00:00:00:01", (ip_address("172.18.0.2"), ip_address("172.18.0.9"))
)
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1", "labels": {"zone": "a"}},
    "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.9"}]},
}
OWN = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNode",
    "metadata": {"name": "n1"},
    "spec": {"ipam": {"podCIDRs": ["10.244.1.0/24"]}},
}


def test_a_node_begins_with_what_was_saved_and_writes_later(tmp_path: Path) -> None:
    """The second address of its device is its own by the Node object, not by chance."""

    async def main() -> None:
        store = AwayStore(tmp_path)
        for body in (NODE, OWN):
            made = await store.create(body)
            if body is NODE:
                await store.update_status(made.key, NODE["status"])  # type: ignore[arg-type]
        seen, _ = node_tables(TableRegistry())
        node = LocalNode("n1", store, seen, ipv4=True, ipv6=False)
        node.devices = NodeDevices((ETH0,))
        node.needed_families = node.families
        reflector = Reflector(store, "CiliumNode", seen, lambda o: decode_node(o, "n1"))
        follow = asyncio.ensure_future(reflector.run())
        await seen.initialized.wait()
        store.gone = True
        assert not await node.begin()
        assert "cannot be reached" in node.error
        async with asyncio.timeout(5):
            await node.wait_for_cidrs()
        assert [str(c) for c in node.pod_cidrs] == ["10.244.1.0/24"]
        assert [str(a) for a in node.internal] == ["172.18.0.9"]
        keep = asyncio.ensure_future(node.keep())
        await asyncio.sleep(0.1)
        store.gone = False
        while True:
            obj = await store.get(ObjectKey("CiliumNode", "", "n1"))
            if obj.spec.get("addresses"):
                break
            await asyncio.sleep(0.05)
        assert obj.labels == {"zone": "a"}
        while node.error:
            await asyncio.sleep(0.05)
        for task in (keep, follow):
            task.cancel()
        await asyncio.gather(keep, follow, return_exceptions=True)
        await store.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_node_that_nobody_knows_is_made_when_the_store_is_back(tmp_path: Path) -> None:
    """It waits for ranges, says for whom, and must not wait for what it has to write itself."""

    async def main() -> None:
        store = AwayStore(tmp_path)
        seen, _ = node_tables(TableRegistry())
        node = LocalNode("n1", store, seen, ipv4=True, ipv6=False)
        node.devices = NodeDevices((ETH0,))
        node.needed_families = node.families
        reflector = Reflector(store, "CiliumNode", seen, lambda o: decode_node(o, "n1"))
        follow = asyncio.ensure_future(reflector.run())
        await seen.initialized.wait()
        store.gone = True
        assert not await node.begin()
        waiting = asyncio.ensure_future(node.wait_for_cidrs())
        await asyncio.sleep(1.5)
        assert "cannot be reached" in node.error
        store.gone = False
        while seen.get("n1") is None:
            await asyncio.sleep(0.05)
        await store.patch(ObjectKey("CiliumNode", "", "n1"), {"spec": OWN["spec"]})
        await waiting
        assert (node.error, [str(a) for a in node.routers]) == ("", ["10.244.1.1"])
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)
        await store.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_store_that_refuses_ends_the_start(tmp_path: Path) -> None:
    """That is no outage: somebody has to do something about it."""

    class Refusing(AwayStore):
        async def get(self, key: ObjectKey):  # type: ignore[no-untyped-def]
            raise StoreError(f"{key}: the API server refuses")

    async def main() -> None:
        store = Refusing(tmp_path)
        seen, _ = node_tables(TableRegistry())
        node = LocalNode("n1", store, seen, ipv4=True, ipv6=False)
        with pytest.raises(StoreError, match="refuses"):
            await node.begin()
        await store.close()

    asyncio.run(asyncio.wait_for(main(), 30))
