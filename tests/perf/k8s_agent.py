"""An agent's side of a large cluster, in a process of its own: the real store, reflectors, tables
and ipcache. ``python -m tests.perf.k8s_agent URL MODE`` prints figures as JSON.

``watch``: events of Pods of 4.1 KB, from the socket to the store. ``pods``: to the row of a table.
``shapes``: to the label sets of an operator that makes identities. ``scale``: all of a cluster's
objects, then changes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import ClientSession

from axoneme.core.cli.process import calm_collector
from axoneme.core.endpoints.labels import PodLabeller
from axoneme.core.endpoints.pods import decode_namespace, decode_pod, pod_tables
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.identities.objects import decode_identity
from axoneme.core.ipcache.feeder import IpcacheFeeder
from axoneme.core.ipcache.ipcache import Ipcache, ipcache_table
from axoneme.core.ipcache.remote import cluster_endpoint_table, decode_cluster_endpoint
from axoneme.core.k8s.access import open_access
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.model.labels import K8S, Label
from axoneme.core.nodes.directory import NodeDirectory, node_tables
from axoneme.core.nodes.objects import decode_node
from axoneme.core.operator.pod_shapes import ShapeDecoder, ShapedPod, WantedLabels
from axoneme.core.state import Table, TableRegistry
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.policy.decode.cilium import decode_cilium_policy
from axoneme.plugins.services.decode import decode_service, decode_slice
from tests.perf.engine import resident
from tests.perf.k8s_objects import PODS, POLICIES, SERVICES

EVENTS: Final = 40_000
REMOTE_NODE: Final = 6
Numbers = dict[str, float]


def cpu() -> float:
    """Seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Side:
    """Store and tables."""

    def __init__(self, url: str, store: KubernetesStore, group: asyncio.TaskGroup) -> None:
        self.url, self.store, self.group, self.tables = url, store, group, TableRegistry()
        self.tasks: list[asyncio.Task[None]] = []

    def follow(self, kind: str, table: Table[Any, Any], decode: Callable[[Any], Any]) -> None:
        """Reflect a kind."""
        reflector: Reflector[Any, Any] = Reflector(self.store, kind, table, decode)
        self.tasks.append(self.group.create_task(reflector.run()))

    async def ask(self, verb: str, **query: Any) -> dict[str, Any]:
        """Of the replaying server."""
        words = {k: str(v) for k, v in query.items()}
        async with ClientSession() as session, session.post(self.url + verb, params=words) as said:
            found: dict[str, Any] = await said.json()
            return found


async def pods(side: Side) -> Numbers:
    """Events into table ``pods``: rate and what it costs."""
    table, _ = pod_tables(side.tables)
    side.follow("Pod", table, partial(decode_pod, node="node-1"))
    await table.initialized.wait()
    size = (await side.ask("/prepare", plural="pods", count=EVENTS))["bytes_each"]
    began, used = time.monotonic(), cpu()
    asked = asyncio.create_task(side.ask("/replay", plural="pods"))
    while len(table) < EVENTS:
        await asyncio.sleep(0.002)
    spent, used = time.monotonic() - began, cpu() - used
    await asked
    return {"event_bytes": size, "pod_rate": EVENTS / spent, "pod_cpu_us": used / EVENTS * 1e6}


async def shapes(side: Side) -> Numbers:
    """Events into the label sets for which an operator makes identities."""
    tables, chosen = side.tables, LabelFilter.from_option()
    table = tables.create("pod_shapes", ShapedPod, key=lambda r: r.key)
    _, namespaces = pod_tables(tables)
    wanted = WantedLabels(PodLabeller("default", chosen))
    table.subscribe(wanted.pods_changed)
    namespaces.subscribe(wanted.namespaces_changed)
    decode = ShapeDecoder(lambda key: chosen.keeps(Label(K8S, key, "")), annotations=False)
    side.follow("Namespace", namespaces, decode_namespace)
    side.follow("Pod", table, decode)
    for each in (namespaces, table):
        await each.initialized.wait()
    await side.ask("/prepare", plural="pods", count=EVENTS)
    gc.collect()
    held, began, used = resident(), time.monotonic(), cpu()
    asked = asyncio.create_task(side.ask("/replay", plural="pods"))
    while len(table) < EVENTS:
        await asyncio.sleep(0.002)
    table.flush()
    spent, used = time.monotonic() - began, cpu() - used
    await asked
    assert len(wanted) > 0
    gc.collect()
    return {
        "shape_rate": EVENTS / spent,
        "shape_cpu_us": used / EVENTS * 1e6,
        "shape_kib": (resident() - held) * 1024 / EVENTS,
        "shape_sets": float(len(wanted)),
    }


async def watch(side: Side) -> Numbers:
    """The same, but nobody listens: decoded, and kept by the store."""
    events = side.store.watch("Pod")
    while (await anext(events)).type != "synced":
        pass
    await events.aclose()  # type: ignore[attr-defined]
    feed = side.store.feeds["Pod"]
    await side.ask("/prepare", plural="pods", count=EVENTS)
    began, used = time.monotonic(), cpu()
    asked = asyncio.create_task(side.ask("/replay", plural="pods"))
    while len(feed._kept) < EVENTS:
        await asyncio.sleep(0.002)
    spent, used = time.monotonic() - began, cpu() - used
    await asked
    return {"watch_rate": EVENTS / spent, "watch_cpu_us": used / EVENTS * 1e6}


async def scale(side: Side) -> Numbers:
    """All but the endpoints, then these, then changes of them."""
    tables = side.tables
    seen, nodes = node_tables(tables)
    NodeDirectory(seen, nodes)
    ipcache = Ipcache(ipcache_table(tables))
    endpoints = cluster_endpoint_table(tables)
    IpcacheFeeder(ipcache, nodes, endpoints, identity_of=lambda _: REMOTE_NODE)
    pods_table, namespaces = pod_tables(tables)
    make = partial(tables.create, row_type=object)
    identities: Table[Any, Any] = make("identities", key=lambda r: r.id)
    services: Table[Any, Any] = make("services", key=lambda r: r.name)
    slices: Table[Any, Any] = make("slices", key=lambda r: r.name)
    rules: Table[Any, Any] = make("rules", key=lambda r: r[0])
    gc.collect()
    empty, began, used = resident(), time.monotonic(), cpu()
    side.follow("Pod", pods_table, partial(decode_pod, node="node-1"))
    side.follow("Namespace", namespaces, decode_namespace)
    side.follow("CiliumNode", seen, partial(decode_node, local_name="node-0"))
    side.follow("CiliumIdentity", identities, decode_identity)
    side.follow("Service", services, decode_service)
    side.follow("EndpointSlice", slices, decode_slice)
    side.follow("CiliumNetworkPolicy", rules, lambda o: (o.key, tuple(decode_cilium_policy(o))))
    for table in (pods_table, namespaces, seen, identities, services, slices, rules):
        await table.initialized.wait()
    assert (len(services), len(slices), len(rules)) == (SERVICES, SERVICES, POLICIES)
    gc.collect()
    before, first = resident(), time.monotonic() - began
    began = time.monotonic()
    side.follow("CiliumEndpoint", endpoints, decode_cluster_endpoint)
    await endpoints.initialized.wait()
    tables["ipcache"].flush()
    spent = time.monotonic() - began
    assert len(endpoints) == PODS
    gc.collect()
    grown = (resident() - before) * 1024 / PODS
    found = {
        "others_mib": before - empty,
        "pod_kib": grown,
        "endpoint_rate": PODS / spent,
        "synced_s": first + spent,
        "synced_cpu_s": cpu() - used,
        "lists": float(sum(f.lists for f in side.store.feeds.values())),
    }
    return found | await churn(side, endpoints, ipcache)


async def churn(side: Side, endpoints: Table[Any, Any], ipcache: Ipcache) -> Numbers:
    """Endpoints change their identity, as fast as we can follow."""
    await side.ask("/prepare", plural="ciliumendpoints", count=EVENTS, type="MODIFIED")
    held, revision = resident(), endpoints.revision
    began, used = time.monotonic(), cpu()
    asked = asyncio.create_task(side.ask("/replay", plural="ciliumendpoints"))
    while endpoints.revision < revision + EVENTS:
        await asyncio.sleep(0.002)
    spent, used = time.monotonic() - began, cpu() - used
    await asked
    endpoints.flush()
    last = max(endpoints.rows()[:EVENTS], key=lambda r: r.name[-6:])
    entry = ipcache.lookup(last.ipv4)
    assert entry is not None
    assert entry.identity == last.identity
    gc.collect()
    return {
        "churn_rate": EVENTS / spent,
        "churn_cpu_us": used / EVENTS * 1e6,
        "churn_mib": resident() - held,
    }


MODES: Final = {"watch": watch, "pods": pods, "shapes": shapes, "scale": scale}


async def run(url: str, mode: str) -> Numbers:
    """One measurement."""
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = Path(folder) / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        saved = None if mode == "shapes" else Path(folder) / "objects"  # operators save nothing
        store = KubernetesStore(await open_access(str(path)), saved=saved)
        try:
            async with asyncio.TaskGroup() as group:  # a reflector that fails ends it all
                side = Side(url, store, group)
                found = await MODES[mode](side)
                for task in side.tasks:
                    task.cancel()
        finally:
            await store.close()
    return found


if __name__ == "__main__":
    calm_collector()  # as the agent does
    json.dump(asyncio.run(run(sys.argv[1], sys.argv[2])), sys.stdout)
