"""This node's own object, which the operator writes too."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from axoneme.core.devices import Device, NodeDevices
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ObjectKey
from axoneme.core.nodes.directory import node_tables
from axoneme.core.nodes.local import LocalNode
from axoneme.core.nodes.objects import SLICES, SOURCE, decode_node
from axoneme.core.state import TableRegistry
from axoneme.core.store.folder import FolderStore
from axoneme.core.store.reflector import Reflector

KEY = ObjectKey("CiliumNode", "", "n1")
ETH0 = Device(
    "eth0",
    2,
    1500,
    "02:00:00:00:00:01",
    (ip_address("172.18.0.2"), ip_address("fd00:18::2")),
)


def test_agent_and_operator_share_the_object(tmp_path: Path) -> None:
    """Addresses are the agent's, pod CIDRs the operator's; deleted, the object comes back
    with both: pods live in these prefixes."""

    async def main() -> None:
        store = FolderStore(tmp_path)
        seen, _ = node_tables(TableRegistry())
        node = LocalNode("n1", store, seen, ipv4=True, ipv6=True)
        node.devices = NodeDevices((ETH0,))
        node.needed_families = node.families
        told: list[tuple[str, ...]] = []
        node.on_pod_cidrs(lambda cidrs: told.append(tuple(map(str, cidrs))))

        def decode(obj):  # type: ignore[no-untyped-def]
            return decode_node(obj, "n1")

        reflector: Reflector[str, Node] = Reflector(store, "CiliumNode", seen, decode)
        follow = asyncio.ensure_future(reflector.run())
        await seen.initialized.wait()
        await node.publish()
        waiting = asyncio.ensure_future(node.wait_for_cidrs())
        await asyncio.sleep(0.1)
        assert node.missing_families() == (4, 6)
        obj = await store.get(KEY)
        cidrs = ["10.244.1.0/24", "fd00:10:244:1::/64"]
        await store.update({**obj.body, "spec": {**obj.spec, "ipam": {"podCIDRs": cidrs}}})
        await asyncio.wait_for(waiting, 5)
        obj = await store.get(KEY)
        assert obj.spec["ipam"]["podCIDRs"] == cidrs
        assert [(a["type"], a["ip"]) for a in obj.spec["addresses"]] == [
            ("InternalIP", "172.18.0.2"),
            ("InternalIP", "fd00:18::2"),
            ("CiliumInternalIP", "10.244.1.1"),
            ("CiliumInternalIP", "fd00:10:244:1::1"),
        ]
        assert told[-1] == tuple(cidrs)
        keep = asyncio.ensure_future(node.keep())
        await asyncio.sleep(0.1)
        await store.delete(KEY)
        for _ in range(100):
            await asyncio.sleep(0.02)
            if await store.list("CiliumNode"):
                break
        again = await store.get(KEY)
        assert again.spec["addresses"] == obj.spec["addresses"]
        assert again.spec["ipam"]["podCIDRs"] == cidrs
        for task in (follow, keep):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await store.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_what_the_agent_announces_is_kept_and_taken_back(tmp_path: Path) -> None:
    """Annotations of others stay; ours comes, comes back, and goes with the next agent."""

    async def main() -> None:
        store = FolderStore(tmp_path)

        def agent(says: str) -> LocalNode:
            seen, _ = node_tables(TableRegistry())
            node = LocalNode("n1", store, seen, ipv4=True, ipv6=True)
            node.devices = NodeDevices((ETH0,))
            node.announced[SOURCE] = says
            return node

        node = agent(SLICES)
        await node.publish()
        made = await store.get(KEY)
        assert dict(made.annotations) == {SOURCE: SLICES} and decode_node(made, "n1").reads_slices
        await store.patch(KEY, {"metadata": {"annotations": {SOURCE: None, "other": "x"}}})
        await node.publish()
        assert dict((await store.get(KEY)).annotations) == {SOURCE: SLICES, "other": "x"}
        await agent("").publish()
        last = await store.get(KEY)
        assert dict(last.annotations) == {"other": "x"} and not decode_node(last, "n1").reads_slices
        await store.close()

    asyncio.run(asyncio.wait_for(main(), 20))
