"""The operator's composition root.

Any number of operators may run; the one that holds the lease works. It renews the lease well
before it ends and stops all work the moment it cannot: two never work at a time for longer than a
clock's error, and every write carries the version that was read besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from axoneme.core.config import Config
from axoneme.core.errors import AxonemeError
from axoneme.core.http import HttpServer
from axoneme.core.ipcache.remote import cluster_endpoint_table, decode_cluster_endpoint
from axoneme.core.metrics import MetricRegistry
from axoneme.core.metrics_server import health_server, metrics_server
from axoneme.core.model.l7 import L7Registry
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ObjectKey
from axoneme.core.nodes.objects import decode_node
from axoneme.core.operator import collect, identities, slice_removal
from axoneme.core.place_options import split_address
from axoneme.core.plugins import PluginManager
from axoneme.core.services import Services
from axoneme.core.state import Table, TableRegistry
from axoneme.core.store.model import Store
from axoneme.core.store.open import open_store
from axoneme.core.store.reflector import Reflector
from axoneme.core.tasks import TaskGroupRunner

log = logging.getLogger(__name__)

LEASE = "axoneme-operator"
LOOPBACK = ("localhost", "127.0.0.1")

Work = Callable[[], Awaitable[None]]


class Operator:
    """Tables, a store, services, and tasks that run while the lease is held."""

    def __init__(
        self, config: Config, plugins: PluginManager, *, store: Store | None = None
    ) -> None:
        self.config = config
        self.plugins = plugins
        self.tables = TableRegistry()
        self.services = Services()
        self.metrics = MetricRegistry(config.words("metrics"))
        self.store = store or open_store(config, plugins)
        self.tasks = TaskGroupRunner()
        self.leading = False
        self.identity = f"{socket.gethostname()}_{os.getpid()}"
        self.nodes: Table[str, Node] = self.tables.create("nodes_seen", Node, key=lambda r: r.name)
        self.node_objects = Reflector(
            self.store, "CiliumNode", self.nodes, partial(decode_node, local_name="")
        )
        self.endpoints = cluster_endpoint_table(self.tables)
        self.identities_in_use: list[Callable[[], Awaitable[Collection[int]]]] = []
        """Who else than CiliumEndpoints uses identities; asked by each collection."""
        self._work: dict[str, Work] = {}
        self._runner: TaskGroupRunner | None = None
        self._servers: list[HttpServer] = []
        protocols = L7Registry()
        self.services.provide(L7Registry, protocols)
        self.plugins.call("axoneme_register_l7", protocols=protocols, config=config)
        collect.register(self)
        identities.register(self)
        slice_removal.register(self)
        self.plugins.call("axoneme_setup_operator", operator=self)

    def add_task(self, name: str, work: Work) -> None:
        """Register work of the leader; started when the lease is won, cancelled when it is lost."""
        if name in self._work:
            raise AxonemeError(f"operator task {name} exists already")
        self._work[name] = work

    def every(self, name: str, seconds: float, work: Work) -> None:
        """Register work that is done every ``seconds``; never when that is 0."""

        async def repeat() -> None:
            while True:
                await work()
                await asyncio.sleep(seconds)

        if seconds > 0:
            self.add_task(name, repeat)

    async def run(self) -> None:
        """Run until cancelled."""
        self.tasks.start()
        self.tasks.spawn("reflect CiliumNode", self.node_objects.run)
        self.tasks.spawn(
            "reflect CiliumEndpoint",
            Reflector(self.store, "CiliumEndpoint", self.endpoints, decode_cluster_endpoint).run,
        )
        await self._open_ports()
        try:
            await self._elect()
        finally:
            led = self.leading
            for server in self._servers:
                await server.stop()
            await self._yield()
            if led:  # the next one need not wait until the lease has run out
                with contextlib.suppress(AxonemeError):
                    await self._give_back()
            await self.tasks.stop()
            await self.store.close()

    async def _open_ports(self) -> None:
        config, servers = self.config, []
        if config.flag("enable-metrics"):
            address = config.text("operator-prometheus-serve-addr")
            servers.append(metrics_server(self.metrics, address))
        if config.text("operator-api-serve-addr"):
            host, port = split_address(config.text("operator-api-serve-addr"))
            servers.append(health_server(port, self.why_not_healthy, host.replace(*LOOPBACK)))
        for server in servers:
            try:
                if server is not None:
                    await server.start()
                    self._servers.append(server)
            except (OSError, AxonemeError) as error:
                log.error("port not opened", extra={"error": str(error)})

    def why_not_healthy(self) -> str:
        """What a restart might help against: a leader whose work has ended; empty when fine.

        An API server that is away is no reason: a new process would find it away, too.
        """
        states = self._runner.states.values() if self._runner is not None else ()
        failed = [s.name for s in states if s.state == "failed"]
        return f"tasks failed: {', '.join(failed)}" if failed else ""

    async def _give_back(self) -> None:
        """Delete the lease if it is ours still: after a pause it may be another leader's."""
        lease = await self.store.get(ObjectKey("Lease", "kube-system", LEASE))
        if lease.spec.get("holderIdentity") == self.identity:
            await self.store.delete(lease.key, lease.resource_version)

    async def _elect(self) -> None:
        duration = self.config.seconds("leader-election-lease-duration")
        deadline = self.config.seconds("leader-election-renew-deadline")
        retry = self.config.seconds("leader-election-retry-period")
        loop = asyncio.get_running_loop()
        renewed = -duration
        while True:
            try:
                async with asyncio.timeout(deadline):
                    held = await self.store.acquire_lease(LEASE, self.identity, duration)
            except (AxonemeError, TimeoutError) as error:
                log.warning("lease not renewed", extra={"error": str(error)})
                held = self.leading and loop.time() - renewed < deadline
            else:
                renewed = loop.time() if held else renewed
            if held and not self.leading:
                await self._lead()
            elif not held and self.leading:
                log.error("lease lost")
                await self._yield()
            await asyncio.sleep(retry)

    async def _lead(self) -> None:
        log.info("leading", extra={"holder": self.identity, "tasks": sorted(self._work)})
        self.leading = True
        self._runner = TaskGroupRunner()
        self._runner.start()
        self._runner.spawn("prepare the store", self._begin)

    async def _begin(self) -> None:
        """The work, once the store knows its kinds: an unknown one would look empty."""
        await self.store.prepare()
        if self._runner is not None:
            for name, work in self._work.items():
                self._runner.spawn(name, work)

    async def _yield(self) -> None:
        self.leading = False
        if self._runner is not None:
            await self._runner.stop()
            self._runner = None
