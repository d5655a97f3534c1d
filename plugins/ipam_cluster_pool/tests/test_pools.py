"""Blocks for nodes."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.errors import ConfigError
from axoneme.core.ipam.blocks import BlockPool
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ObjectKey
from axoneme.core.nodes.objects import decode_node
from axoneme.core.state import Table
from axoneme.core.store.folder import FolderStore
from axoneme.plugins.ipam_cluster_pool.blocks import NodeBlocks
from axoneme.plugins.ipam_cluster_pool.carve import plan
from axoneme.plugins.ipam_cluster_pool.config import check


def test_plan_serves_families_reports_and_keeps() -> None:
    """New nodes get a block of each family, old ones keep theirs, the one too many is told."""
    nodes = [
        Node("old", pod_cidrs=(IPv4Network("10.0.0.0/25"),)),
        Node("twin", pod_cidrs=(IPv4Network("10.0.0.0/25"), IPv6Network("fd00:9::/64"))),
        Node("new"),
        Node("late"),
    ]
    todo = plan(
        nodes,
        [BlockPool([IPv4Network("10.0.0.0/24")], 25), BlockPool([IPv6Network("fd00::/56")], 64)],
    )
    assert [str(c) for c in todo.assignments["old"]] == ["10.0.0.0/25", "fd00::/64"]
    assert [str(c) for c in todo.assignments["new"]] == ["10.0.0.128/25", "fd00:0:0:1::/64"]
    assert "twin" not in todo.assignments
    assert "held by node old" in todo.errors["twin"]
    assert "no /25 block left in 10.0.0.0/24" in todo.errors["late"]


CONFIG = {
    "enable-ipv4": True,
    "enable-ipv6": False,
    "cluster-pool-ipv4-cidr": (IPv4Network("10.0.0.0/24"),),
    "cluster-pool-ipv4-mask-size": 25,
}


@pytest.mark.parametrize("size", [8, 60])
def test_mask_that_does_not_fit_is_refused(size: int) -> None:
    """Larger than the pool, or too many blocks: the message names key and pool."""
    config: Any = {**CONFIG, "cluster-pool-ipv4-mask-size": size}
    with pytest.raises(ConfigError, match=r"mask-size.*10\.0\.0\.0/24"):
        check(config)


def test_operator_writes_blocks_and_errors(tmp_path: Path) -> None:
    """Two blocks, three nodes: the third is told why, and gets the block of one that goes."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        table: Table[str, Node] = Table("nodes_seen", Node, key=lambda r: r.name)
        blocks = NodeBlocks(CONFIG, store, table)  # type: ignore[arg-type]

        async def nodes() -> list[Node]:
            return [decode_node(o, "") for o in await store.list("CiliumNode")]

        for name in ("a", "b", "c"):
            await store.create(
                {
                    "apiVersion": "cilium.io/v2",
                    "kind": "CiliumNode",
                    "metadata": {"name": name},
                    "spec": {"addresses": [{"type": "InternalIP", "ip": "1.2.3.4"}]},
                }
            )
        assert await blocks.serve(await nodes())
        found = {n.name: n for n in await nodes()}
        assert {str(c) for n in "ab" for c in found[n].pod_cidrs} == {
            "10.0.0.0/25",
            "10.0.0.128/25",
        }
        assert str(found["a"].ipv4) == "1.2.3.4"
        status = (await store.get(ObjectKey("CiliumNode", "", "c"))).status
        error = status["ipam"]["operator-status"]["error"]
        assert "all 2 are in use" in error and "cluster-pool-ipv4-cidr" in error
        await store.delete(ObjectKey("CiliumNode", "", "a"))
        await blocks.serve(await nodes())
        await blocks.serve(await nodes())
        last = await store.get(ObjectKey("CiliumNode", "", "c"))
        assert last.spec["ipam"]["podCIDRs"] == ["10.0.0.0/25"]
        assert not last.status["ipam"]["operator-status"]
        await store.close()

    asyncio.run(work())


WIDE: Any = {
    "enable-ipv4": True,
    "enable-ipv6": False,
    "cluster-pool-ipv4-cidr": [IPv4Network("10.0.0.0/16")],
    "cluster-pool-ipv4-mask-size": 24,
}


def stored_node(name: str, address: str = "172.18.0.9", *cidrs: str) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": {"name": name},
        "spec": {
            "addresses": [{"type": "InternalIP", "ip": address}],
            "ipam": {"podCIDRs": list(cidrs)},
        },
    }


async def blocks_of(store: FolderStore, name: str) -> list[str]:
    found: list[str] = (await store.get(ObjectKey("CiliumNode", "", name))).spec["ipam"]["podCIDRs"]
    return found


def test_rows_that_lag_behind_give_nothing_away_twice(tmp_path: Path) -> None:
    """What was just written counts, although the table does not show it yet."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        blocks = NodeBlocks(WIDE, store, Table("nodes_seen", Node, key=lambda r: r.name))
        await store.create(stored_node("n0", "172.18.0.9", "10.0.0.0/24"))
        await store.create(stored_node("n1"))
        first = Node("n0", pod_cidrs=(IPv4Network("10.0.0.0/24"),))
        assert await blocks.serve([first, Node("n1")])
        assert await blocks_of(store, "n1") == ["10.0.1.0/24"]
        await store.delete(ObjectKey("CiliumNode", "", "n0"))
        await store.create(stored_node("n2"))
        assert await blocks.serve([Node("n1"), Node("n2")])
        assert await blocks_of(store, "n1") == ["10.0.1.0/24"]
        assert await blocks_of(store, "n2") == ["10.0.0.0/24"]
        await store.close()

    asyncio.run(work())


def test_block_of_a_node_that_is_refused_stays_its_own(tmp_path: Path) -> None:
    """A bad address, a bad CIDR beside a good one, or a broken file: pods live in the block."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        blocks = NodeBlocks(WIDE, store, Table("nodes_seen", Node, key=lambda r: r.name))
        await store.create(stored_node("a", "bad", "10.0.0.0/24"))
        await store.create(stored_node("b", "172.18.0.9", "10.0.1.7/24", "nonsense"))
        await store.create(stored_node("d"))
        broken = Node("c", pod_cidrs=(IPv4Network("10.0.2.0/24"),))
        (tmp_path / "CiliumNode" / "c.yaml").write_text("{")
        assert await blocks.serve([Node("d"), broken])
        assert await blocks_of(store, "d") == ["10.0.3.0/24"]
        assert await blocks_of(store, "a") == ["10.0.0.0/24"]
        await store.close()

    asyncio.run(work())


def test_blocks_of_another_mode_stay_the_nodes(tmp_path: Path) -> None:
    """Pods of multi-pool IPAM live in them: no other node gets them, and what lacks is given."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        both: Any = {**WIDE, "enable-ipv6": True, "cluster-pool-ipv6-mask-size": 64}
        both["cluster-pool-ipv6-cidr"] = [IPv6Network("fd00::/48")]
        blocks = NodeBlocks(both, store, Table("nodes_seen", Node, key=lambda r: r.name))
        old = stored_node("old")
        old["spec"]["ipam"]["pools"] = {"allocated": [{"pool": "x", "cidrs": ["10.0.0.0/27"]}]}
        nodes = [await store.create(old), await store.create(stored_node("new"))]
        assert await blocks.serve([decode_node(obj, "") for obj in nodes])
        assert await blocks_of(store, "old") == ["10.0.0.0/27", "fd00:0:0:1::/64"]
        assert await blocks_of(store, "new") == ["10.0.1.0/24", "fd00::/64"]
        await store.close()

    asyncio.run(work())


def test_a_stop_that_meets_a_change_is_a_stop(tmp_path: Path) -> None:
    """The operator's task ends although it is woken in the moment in which it is cancelled."""

    async def work() -> None:
        table: Table[str, Node] = Table("nodes_seen", Node, key=lambda r: r.name)
        table.mark_initialized()
        store = FolderStore(tmp_path)
        (tmp_path / "CiliumNode").write_text("no folder: nothing can be read, so it tries again")
        table.upsert(Node("a"))
        task = asyncio.create_task(NodeBlocks(WIDE, store, table).run())
        await asyncio.sleep(0.1)
        table.upsert(Node("b"))
        table.flush()
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done and task.cancelled()
        await store.close()

    asyncio.run(work())
