"""What the hooks of the services plugin do with an agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.errors import ConfigError
from axoneme.core.model.balancing import (
    ExtraServices,
    FrontendKey,
    GoneBackends,
    PortKey,
    Redirect,
    ServiceName,
    ServicePort,
)
from axoneme.core.model.objects import ClusterObject
from axoneme.core.reconcile import Reconciler
from axoneme.core.state import Table
from axoneme.core.status import Health
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.services import hostports, kernel
from axoneme.plugins.services.compute import NodeView
from axoneme.plugins.services.config import ServiceSettings
from axoneme.plugins.services.datapath import SELECT
from axoneme.plugins.services.decode import decode_service, decode_slice, is_served
from axoneme.plugins.services.health import HealthServers
from axoneme.plugins.services.manager import ServiceManager
from axoneme.plugins.services.rows import Service, Slice
from axoneme.plugins.services.statefile import StateFile
from axoneme.plugins.services.target import BalancingTarget, Tables

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.status import StatusReport

log = logging.getLogger(__name__)

ZONE: Final = "topology.kubernetes.io/zone"


class PreparedReconciler(Reconciler[PortKey, ServicePort]):
    """A reconciler whose target is made, and its table filled, when maps are open."""

    def __init__(
        self, table: Table[PortKey, ServicePort], prepare: Callable[[], Awaitable[BalancingTarget]]
    ) -> None:
        super().__init__("services", table, None)  # type: ignore[arg-type]
        self._prepare = prepare

    async def run(self) -> None:
        """Prepare, then follow the table."""
        self.target = await self._prepare()
        await super().run()


class Services:
    """Services of one agent; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self.settings = ServiceSettings.from_config(agent.config)
        self.gone = GoneBackends()
        agent.services.provide(GoneBackends, self.gone)
        self._agent = agent
        self._networks = [ip_network(t) for t in agent.config["nodeport-addresses"]]
        tables = agent.tables
        services: Table[ServiceName, Service] = tables.create(
            "services", Service, key=lambda r: r.name
        )
        slices: Table[ServiceName, Slice] = tables.create(
            "service_slices",
            Slice,
            key=lambda r: r.name,
            indexes={"service": lambda r: [r.service]},
        )
        ports: Table[PortKey, ServicePort] = tables.create(
            "service_ports", ServicePort, key=lambda r: r.key
        )
        redirects: Table[tuple[ServiceName, str], Redirect] = tables.create(
            "service_redirects", Redirect, key=lambda r: (r.service, r.port)
        )
        self.manager = ServiceManager(
            services, slices, ports, self.settings, self.algorithms, redirects
        )
        self._dirty = asyncio.Event()
        self._ready = False
        self.manager.wake = self._dirty.set
        self.reconciler = PreparedReconciler(ports, self._prepare)
        agent.add_reconciler(self.reconciler)
        agent.required += [services, slices]
        self.reflectors: list[Reflector[Any, Any]] = [
            Reflector(agent.store, "Service", services, self._decode),
            Reflector(agent.store, "EndpointSlice", slices, decode_slice),
        ]
        agent.reflectors += self.reflectors
        for reflector in self.reflectors:
            agent.tasks.spawn(f"services: reflect {reflector.kind}", reflector.run)
        agent.tasks.spawn("services", self._follow)
        tables["nodes"].subscribe(lambda _: self.look_at_node())
        agent.services.provide(ExtraServices, self.manager)  # type: ignore[type-abstract]
        self.health = HealthServers()
        self._with_host_ports: set[str] = set()
        self._look = asyncio.Event()
        for table in (tables["pods"], tables["endpoints"], services, ports):
            table.subscribe(lambda _: self._look.set())
        agent.tasks.spawn("services: node ports of pods, health checks", self._follow_node)
        self.file: StateFile | None = None
        if agent.config["lb-state-file"]:
            path = Path(str(agent.config["lb-state-file"]))
            self.file = StateFile(path, services, slices, self._decode)
            agent.tasks.spawn("services: state file", self._follow_file)

    async def _follow_file(self) -> None:
        assert self.file is not None
        await self._agent.synced.wait()  # the cluster's own come first
        while True:
            await self._look_at_file()
            await asyncio.sleep(self._agent.config["lb-state-file-interval"])

    async def _look_at_file(self) -> None:
        if self.file is not None:
            await asyncio.to_thread(self.file.look)
            self.file.publish()

    async def _follow_node(self) -> None:
        """What depends on the pods that are here: host ports, health checks."""
        await self._agent.maps_ready.wait()
        await self.health.listen(
            str(self._agent.config["kube-proxy-replacement-healthz-bind-address"]),
            self._agent.why_not_ready,
        )
        while True:
            await self._look.wait()
            self._look.clear()
            self._offer_host_ports()
            await self.health.keep(self._health_ports())
            await asyncio.sleep(0.05)  # pods come in crowds

    def _offer_host_ports(self) -> None:
        pods = {(p.namespace, p.name): p for p in self._agent.tables["pods"] if p.host_ports}
        offered = set()
        for endpoint in self._agent.tables["endpoints"]:
            pod = pods.get((endpoint.namespace, endpoint.pod))
            if pod is not None:
                name = f"{pod.namespace}/{pod.name}"
                offered.add(name)
                made = hostports.rows(
                    pod, endpoint, self._agent.node_name, self.manager.node.addresses
                )
                self.manager.offer(hostports.SOURCE, name, made)
        for name in self._with_host_ports - offered:
            self.manager.offer(hostports.SOURCE, name, ())
        self._with_host_ports = offered

    def _health_ports(self) -> dict[int, ServiceName]:
        if not self._agent.config["enable-health-check-nodeport"]:
            return {}
        wanted = {
            s.health_port: s.name for s in self.manager.services if s.health_port and s.local_out
        }
        names = set(wanted.values())
        self.health.counts = {
            (p.key.namespace, p.key.service): len(p.chosen_local)
            for p in self.manager.ports
            if (p.key.namespace, p.key.service) in names
        }
        return wanted

    def _decode(self, obj: ClusterObject) -> Service | None:
        return decode_service(obj) if is_served(obj, self.settings.proxy_name) else None

    def algorithms(self) -> Mapping[str, int]:
        """Name and number of what can choose backends."""
        return self._agent.datapath.registry.alternatives.get(SELECT, {})

    def look_at_node(self) -> None:
        """This node's name, zone and addresses, as they are now."""
        agent = self._agent
        row = agent.node.row
        zone = dict(row.labels).get(ZONE, "") if row is not None else ""
        found = [a for d in agent.node.devices.devices for a in d.addresses]
        served = [
            a
            for a in dict.fromkeys(found)
            if not (a.is_link_local or a.is_loopback)
            and (not self._networks or any(a in n for n in self._networks))
        ]
        self.manager.set_node(NodeView(agent.node_name, zone, tuple(served)))

    async def _prepare(self) -> BalancingTarget:
        """Take over the numbers of the predecessor, compute everything, make the target."""
        algorithms = dict(self.algorithms())
        if self.settings.algorithm not in algorithms:
            raise ConfigError(
                f"key bpf-lb-algorithm is {self.settings.algorithm!r}",
                hint=f"there are {', '.join(sorted(algorithms))}",
            )
        datapath = self._agent.datapath
        encoder = kernel.Encoder(
            lambda name: datapath.typed(name, *kernel.MODELS[name]), algorithms
        )
        frontends, backends = await asyncio.to_thread(self._read)
        await self._look_at_file()  # its flows shall find their services again at once
        self.look_at_node()
        self.manager.adopt(frontends, backends)
        self.manager.mark_all()
        for table in (self.manager.services, self.manager.slices):
            table.flush()
        self.manager.flush()
        self.manager.finish_adoption()
        self._ready = True
        tables = Tables(datapath.map(kernel.MAGLEV), self.settings.table_size, self.settings.seed)
        return BalancingTarget(datapath.maps, encoder, tables, self.gone.tell)

    def _read(self) -> tuple[dict[FrontendKey, tuple[int, int]], dict[Any, int]]:
        """Numbers in use; blocking."""
        datapath = self._agent.datapath
        frontends: dict[FrontendKey, tuple[int, int]] = {}
        typed = datapath.typed(kernel.FRONTENDS, *kernel.MODELS[kernel.FRONTENDS])
        for key, value in typed.items():
            if value.id:
                frontends[kernel.read_key(key)] = (value.id, value.service)
        typed = datapath.typed(kernel.BACKENDS, *kernel.MODELS[kernel.BACKENDS])
        backends = {(v.addr.packed, v.port, v.proto): k.id for k, v in typed.items()}
        return frontends, backends

    async def _follow(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            if self._ready:
                self.manager.flush()
            await asyncio.sleep(0)

    # What others ask

    def report(self, report: StatusReport) -> None:
        """Line ``KubeProxyReplacement`` in Cilium's shape, component ``services``."""
        devices = self._agent.node.devices.devices
        direct = self._agent.node.devices.direct
        words = []
        for device in devices:
            shown = " ".join(str(a) for a in device.addresses)
            words.append(
                f"{device.name} {shown}" + (" (Direct Routing)" if device == direct else "")
            )
        report.line("KubeProxyReplacement", f"True   [{', '.join(words)}]")
        report.detail("KubeProxyReplacement Details", self._details())
        problems = [
            *self._failures(),
            *self._conflicts(),
            *self._bad_objects(),
            *self.health.errors.values(),
            *(self.file.problems() if self.file is not None else ()),
        ]
        health = Health.WARNING if problems else Health.OK
        report.component("services", health, "; ".join(problems[:5]))

    def _details(self) -> Iterable[str]:
        counts: dict[str, int] = {}
        for row in self.manager.ports:
            for frontend in row.frontends:
                if frontend.key.address is not None:
                    counts[frontend.kind.text] = counts.get(frontend.kind.text, 0) + 1
        yield f"Mode: {self.settings.mode.upper()}"
        backend = self.settings.algorithm.capitalize()
        if self.settings.algorithm == "maglev":
            backend += f" (Table Size: {self.settings.table_size})"
        yield f"Backend Selection: {backend}"
        yield "Session Affinity: Enabled"
        yield "Services: " + ", ".join(f"{k}: {n}" for k, n in sorted(counts.items()))

    def _failures(self) -> list[str]:
        return list(dict.fromkeys(
            f"{key.namespace}/{key.service}: {text} (keys bpf-lb-map-max and those of each map)"
            for key, text in self.reconciler.errors.items()
        ))  # fmt: skip

    def _conflicts(self) -> list[str]:
        return [
            f"service {'/'.join(name)} does not get {key.address}:{key.port}: "
            f"{'/'.join(owner)} is older and has it"
            for name, lost in self.manager.conflicts.items()
            for key, owner in lost.items()
            if key.address is not None
        ]

    def _bad_objects(self) -> list[str]:
        return [text for reflector in self.reflectors for text in reflector.errors.values()]

    def register_metrics(self, metrics: MetricRegistry) -> None:
        """How many services there are, and what could not be programmed."""
        metrics.collect_gauge("services", "Frontends of services by kind", ("kind",), self._kinds)
        metrics.collect_gauge(
            "service_backends", "Backends of services", (),
            lambda: [((), float(len(self.manager.backend_numbers.by_key)))],
        )  # fmt: skip
        metrics.collect_gauge(
            "service_errors", "Ports of services that are not programmed", (),
            lambda: [((), float(len(self.reconciler.errors)))],
        )  # fmt: skip

    def _kinds(self) -> list[tuple[tuple[str, ...], float]]:
        counts: dict[str, int] = {}
        for row in self.manager.ports:
            for frontend in row.frontends:
                counts[frontend.kind.text] = counts.get(frontend.kind.text, 0) + 1
        return [((kind,), float(n)) for kind, n in counts.items()]
