"""The start and the stop of an agent, step by step."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axoneme.core.agent import bpffs, cilium, facts
from axoneme.core.agent import datapath as packet_path
from axoneme.core.agent.feeds import spawn_reflectors, wait_synced
from axoneme.core.cni import install as cni_install
from axoneme.core.conntrack.task import collect
from axoneme.core.devices import NodeDevices, detect
from axoneme.core.errors import AxonemeError
from axoneme.core.metrics_server import health_server, metrics_server
from axoneme.core.netlink.links import LinkInfo
from axoneme.core.nodes.runtime import RuntimeMap

if TYPE_CHECKING:
    from axoneme.core.agent.agent import Agent
    from axoneme.core.events.model import Event

log = logging.getLogger(__name__)

DEVICE_SECONDS = 10.0
"""How often devices are looked at again."""

DEFAULT_SOCKET = Path("/var/run/axoneme/axoneme.sock")
"""What the CNI executable asks when its configuration names no socket."""

CORE_TABLES = ("pods", "namespaces", "identities", "nodes_seen", "cluster_endpoints")


class Startup:
    """Runs the steps of one agent and undoes them at the end."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._began = time.monotonic()
        self._servers: list[Any] = []

    # Start

    async def start(self) -> None:
        """From nothing to ready."""
        agent = self.agent
        await agent.server.start()
        await self._open_ports()
        agent.tasks.start()
        await self._step("reading the store", self._read_store())
        await self._step("learning its addresses", self._join())
        await self._step("preparing the packet path", self._prepare())
        await self._step("restoring endpoints", agent.endpoints.restore())
        await self._step("programming maps", self._program())
        await self._step("waiting for policy", self._await_policy())
        await self._step("attaching programs", self._attach())
        await self._step("finishing endpoints", agent.endpoints.finish_restore())
        await self._serve()

    async def _step(self, what: str, work: Any) -> None:
        self.agent.status = what
        began = time.monotonic()
        await work
        log.info(
            "start step done",
            extra={"step": what, "milliseconds": round((time.monotonic() - began) * 1000)},
        )

    async def _read_store(self) -> None:
        agent = self.agent
        agent.reflectors += spawn_reflectors(agent)
        tables = [agent.tables[name] for name in CORE_TABLES] + agent.required
        await wait_synced(tables, self._tell_missing)
        agent.nodes.settle()
        agent.tables["cluster_endpoints"].flush()
        agent.synced.set()

    def _tell_missing(self, tables: str) -> None:
        self.agent.status = f"reading the store, which has not told {tables}"

    async def _join(self) -> None:
        """Find the devices, write the node's object, wait for pod CIDRs if somebody needs them."""
        agent = self.agent
        await self._detect()
        await agent.node.begin()
        agent.tasks.spawn("own Kubernetes node", agent.node.follow_kubernetes)
        if agent.node.needed_families:
            await agent.node.wait_for_cidrs()
        agent.tables["nodes_seen"].flush()
        agent.tasks.spawn("own node", agent.node.keep)

    async def _prepare(self) -> None:
        agent = self.agent
        await asyncio.to_thread(bpffs.ensure, Path(agent.config.text("bpf-root")))
        await packet_path.prepare(agent)
        packet_path.require_programs(agent.datapath, "from_container", "to_container")
        agent.datapath.load()
        agent.runtime = RuntimeMap(agent.datapath.map("axo_runtime"))

    async def _program(self) -> None:
        """The network and the maps; programs of the predecessor run on what they find there."""
        agent = self.agent
        agent.tasks.spawn("network", agent.network.run)
        for name, message in (await agent.network.resync()).items():
            log.error("network item failed", extra={"object": name, "error": message})
        await self._refresh_facts()
        # Only now: a reconciler that starts with an empty table would sweep what is pinned.
        agent.maps_ready.set()
        found = packet_path.core_reconcilers(agent, agent.runtime)  # type: ignore[arg-type]
        agent.reconcilers.update(found)
        found |= {each.name: each for each in agent.added_reconcilers}
        for name, reconciler in found.items():
            agent.tasks.spawn(f"reconcile {name}", reconciler.run)
        await packet_path.settle(found)

    async def _await_policy(self) -> None:
        """Old programs keep the old policy until the policy of every endpoint is in its map."""
        agent = self.agent
        identities = agent.subjects | {e.identity for e in agent.endpoints.table.rows()}
        for identity in sorted(identities):
            try:
                await agent.realizer.policy(identity)
            except AxonemeError as error:  # it fails closed; others must not wait for it
                log.error("policy missing", extra={"identity": identity, "error": str(error)})

    async def _attach(self) -> None:
        agent = self.agent
        facts.write_device_attachments(agent)
        reconciler = agent.datapath.reconciler()
        agent.reconcilers["attachments"] = reconciler
        agent.tasks.spawn("reconcile attachments", reconciler.run)
        await packet_path.settle({"attachments": reconciler})
        names = ("endpoints", "interfaces", "ipcache", "attachments")
        agent.realizer.reconcilers = tuple(agent.reconcilers[n] for n in names)

    async def _serve(self) -> None:
        agent = self.agent
        self._open_events()
        agent.endpoints.accepting = True
        agent.status = "ready"
        agent.ready.set()
        agent.refresher.refresh_all()
        agent.tasks.spawn("publish endpoints", agent.publisher.run)
        agent.tasks.spawn("cni queue", agent.cni.run)
        agent.tasks.spawn("devices", self._watch_devices)
        agent.tasks.spawn("conntrack gc", partial(collect, agent))
        agent.tables["nodes"].subscribe(lambda _: agent.network.request())
        await self._announce()
        if away := agent.store.away():
            extra = {"reason": away, "kinds": len(agent.store.recalled())}
            log.warning("the API server is away, working from what was saved", extra=extra)
        log.info(
            "agent ready",
            extra={
                "node": agent.node_name,
                "endpoints": len(agent.endpoints.table),
                "seconds": round(time.monotonic() - self._began, 3),
            },
        )

    # Parts

    async def _detect(self) -> dict[str, LinkInfo]:
        agent = self.agent
        found, links = await asyncio.to_thread(_look, agent)
        agent.node.devices = found
        await self._look_for_cilium(links)
        return links

    async def _look_for_cilium(self, links: dict[str, LinkInfo]) -> None:
        agent = self.agent
        root = Path(agent.config.text("bpf-root"))
        found = await asyncio.to_thread(cilium.look, root, links)
        if found != agent.cilium:
            agent.cilium = found
            text = found.text() or "nothing any more"
            log.warning("Cilium is on this node and is left alone", extra={"found": text})

    async def _refresh_facts(self) -> dict[str, LinkInfo]:
        links = await self._detect()
        facts.write_host_rows(self.agent, links)
        facts.write_facts(self.agent, links)
        for _, function in self.agent.plugins.each("axoneme_links_changed"):
            function(links=links, agent=self.agent)
        return links

    async def _watch_devices(self) -> None:
        """Devices come and go; what depends on them follows."""
        agent, owed = self.agent, False
        while True:
            await asyncio.sleep(DEVICE_SECONDS)
            before = agent.node.devices
            endpoints = agent.endpoints.table.rows()
            links = await self._refresh_facts()
            agent.endpoints.note_links(endpoints, {x.index for x in links.values()})
            if agent.node.devices != before:
                log.info(
                    "devices changed",
                    extra={"devices": [d.name for d in agent.node.devices.devices]},
                )
                facts.write_device_attachments(agent)
                agent.network.request()
                owed = True
            if owed:
                owed = not await agent.node.begin()

    def _open_events(self) -> None:
        agent = self.agent
        listeners = list(agent.plugins.each("axoneme_handle_events"))
        agent.events.recent.limit = agent.config.number("policy-events-buffer")
        agent.events.open(agent.datapath, [self._hand_out] if listeners else [])
        agent.events.start()

    def _hand_out(self, events: list[Event]) -> None:
        """Every batch to every plugin that listens; one that fails never stops the others."""
        for name, function in self.agent.plugins.each("axoneme_handle_events"):
            try:
                function(events=events)
            except Exception:
                log.exception("plugin failed", extra={"plugin": name})

    async def _announce(self) -> None:
        """Tell the runtime about us, now that pods can be connected: a kubelet waits for it."""
        config = self.agent.config
        path = config.text("write-cni-conf-when-ready")
        if not path:
            return
        socket = config.text("socket-path")
        work = partial(
            cni_install.write_configuration,
            Path(path),
            socket="" if Path(socket) == DEFAULT_SOCKET else socket,
            exclusive=config.flag("cni-exclusive"),
        )
        try:
            for renamed in await asyncio.to_thread(work):
                log.info("CNI configuration set aside", extra={"file": str(renamed)})
        except (OSError, AxonemeError) as error:
            log.error("CNI configuration not written", extra={"file": path, "error": str(error)})

    async def _open_ports(self) -> None:
        agent = self.agent
        servers = (
            metrics_server(agent.metrics, agent.config.text("prometheus-serve-addr")),
            health_server(
                agent.config.number("agent-health-port"),
                agent.why_not_ready,
                remark=agent.store.away,
            ),
        )
        for server in servers:
            if server is None:
                continue
            try:
                await server.start()
                self._servers.append(server)
            except (OSError, AxonemeError) as error:
                log.error("port not opened", extra={"error": str(error)})

    # Stop

    async def stop(self) -> None:
        """Let go of everything; maps, links and programs stay and go on forwarding."""
        agent = self.agent
        agent.endpoints.accepting = False
        agent.ready.clear()
        agent.status = "stopping"
        with contextlib.suppress(Exception):
            await agent.server.stop()
        for server in self._servers:
            with contextlib.suppress(Exception):
                await server.stop()
        await agent.refresher.stop()
        with contextlib.suppress(Exception):
            agent.plugins.call("axoneme_stop_agent", reverse=True, agent=agent)
        await agent.tasks.stop()
        await agent.identities.close()
        with contextlib.suppress(Exception):
            agent.events.stop()
        await agent.endpoints.stop()
        agent.network.close()
        await agent.store.close()
        agent.datapath.close()
        agent.netlink.close()
        log.info("agent stopped", extra={"node": agent.node_name})


def _look(agent: Agent) -> tuple[NodeDevices, dict[str, LinkInfo]]:
    """Blocking: links, addresses and routes of the node."""
    links = agent.netlink.links()
    routes = [(r.route, r.index) for r in agent.netlink.route_infos() if r.route.table == 254]
    found = detect(
        links,
        agent.netlink.addresses(),
        routes,
        patterns=agent.config.words("devices"),
        direct=agent.config.text("direct-routing-device"),
    )
    return found, {x.name: x for x in links}
