"""Endpoints out of slices, into the table that everybody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.errors import InvalidObjectError
from axoneme.core.ipcache.remote import ClusterEndpoint, cluster_endpoint_table
from axoneme.core.ipcache.slices import KIND, SliceReflector, decode_slice
from axoneme.core.model.objects import ObjectKey
from axoneme.core.state import Table, TableRegistry
from axoneme.core.store.folder import FolderStore
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.store.manifest import to_object
from axoneme.core.testing.operators import eventually

LOST = {"addressing": [{"ipv4": "10.0.0.1"}], "node": "x"}


def entry(name: str, identity: Any = 300, ip: str = "10.0.1.5") -> dict[str, Any]:
    networking = {"addressing": [{"ipv4": ip, "ipv6": "fd00::5"}], "node": "172.18.0.3"}
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    return {"name": name, "id": identity, "networking": networking, "named-ports": ports}


def body(name: str, *entries: Any, namespace: Any = "x") -> dict[str, Any]:
    head = {"apiVersion": "cilium.io/v2alpha1", "kind": KIND, "metadata": {"name": name}}
    return {**head, "namespace": namespace, "endpoints": list(entries)}


def test_a_slice_is_read() -> None:
    """One without an identity or an address is left out."""
    bare = {"name": "bare", "id": 301}
    obj = to_object(body("s", entry("a"), entry("b", 0), bare), KindRegistry())
    (row,) = decode_slice(obj)
    assert (row.namespace, row.name, row.identity) == ("x", "a", 300)
    assert (row.ipv4, row.ipv6) == (IPv4Address("10.0.1.5"), IPv6Address("fd00::5"))
    assert (str(row.node), row.named_ports[0].port) == ("172.18.0.3", 80)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (body("s", entry("a"), entry("b", -1)), r"endpoints\[1\]\.id: -1"),
        (body("s", entry("a", ip="nowhere")), r"endpoints\[0\]\.networking\.addressing: "),
        (body("s", {"id": 3}), r"endpoints\[0\]: must have a name"),
        (body("s", namespace=7), r"namespace: must be a name"),
        (body("s") | {"endpoints": "all"}, r"endpoints: must list"),
        (body("s", entry("a") | {"named-ports": [{"port": 0}]}), r"endpoints\[0\]\.named-ports: "),
        (body("s", entry("a") | {"networking": LOST}), r"endpoints\[0\]\.networking\.node: "),
    ],
)  # fmt: skip
def test_a_bad_slice_is_named_by_field(bad: dict[str, Any], field: str) -> None:
    """Object and path are in the error."""
    with pytest.raises(InvalidObjectError, match=f"^{KIND} s: {field}"):
        decode_slice(to_object(bad, KindRegistry()))


def follow(
    folder: Path,
    story: Callable[[FolderStore, Table[Any, ClusterEndpoint], SliceReflector], Awaitable[None]],
) -> None:
    async def work() -> None:
        store = FolderStore(folder)
        table = cluster_endpoint_table(TableRegistry())
        reflector = SliceReflector(store, table)
        task = asyncio.create_task(reflector.run())
        await table.initialized.wait()
        await story(store, table, reflector)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()

    asyncio.run(asyncio.wait_for(work(), 30))


def test_an_endpoint_that_moves_is_never_gone(tmp_path: Path) -> None:
    """The slice that spoke last counts; the older one's end takes nothing away."""

    async def story(store: FolderStore, table: Any, reflector: SliceReflector) -> None:
        lost: list[Any] = []
        await store.create(body("one", entry("a", 300), entry("b", 300)))
        await eventually(lambda: len(table) == 2)
        table.subscribe(lambda changes: lost.extend(changes.deleted))
        await store.create(body("two", entry("b", 301)))
        await eventually(lambda: table.get(("x", "b")).identity == 301)
        await store.update(body("one", entry("a", 302), entry("b", 300)))
        await eventually(lambda: table.get(("x", "a")).identity == 302)
        assert table.get(("x", "b")).identity == 301
        await store.update(body("one", entry("a", 302)))
        await store.delete(ObjectKey(KIND, "", "one"))
        await eventually(lambda: ("x", "a") not in table)
        assert table.get(("x", "b")).identity == 301
        table.flush()
        assert lost == [("x", "a")]
        await store.delete(ObjectKey(KIND, "", "two"))
        await eventually(lambda: not len(table))

    follow(tmp_path, story)


def test_a_slice_that_turns_bad_keeps_its_last_good_version(tmp_path: Path) -> None:
    """And is named; others go on."""

    async def story(store: FolderStore, table: Any, reflector: SliceReflector) -> None:
        await store.create(body("one", entry("a")))
        await eventually(lambda: len(table) == 1)
        await store.update(body("one", entry("a", "root")))
        await eventually(lambda: reflector.errors)
        await store.create(body("two", entry("b")))
        await eventually(lambda: len(table) == 2)
        assert table.get(("x", "a")).identity == 300
        assert "endpoints[0].id" in reflector.errors[ObjectKey(KIND, "", "one")]

    follow(tmp_path, story)
