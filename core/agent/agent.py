"""The agent's composition root: what there is, and in which order it starts.

The order is the promise of a restart without harm (``reliability.md`` 7a): nothing in the kernel
changes before the store has been read; then pinned maps are adopted and endpoints restored into
tables; then maps are made right; and only then programs are replaced, one atomic step each. Until
that moment the programs of the predecessor forward, under the policy that it left.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

from axoneme.core.agent import datapath as packet_path
from axoneme.core.agent import health, live_keys
from axoneme.core.agent.cilium import Traces
from axoneme.core.agent.hooks import PluginHooks
from axoneme.core.agent.lock import state_lock
from axoneme.core.agent.startup import Startup
from axoneme.core.api import core_metrics, methods
from axoneme.core.api.server import ApiRouter, ApiServer
from axoneme.core.cni.server import CniServer
from axoneme.core.config import Config
from axoneme.core.conntrack.gc import ConntrackCollector
from axoneme.core.conntrack.task import register_metrics
from axoneme.core.endpoints.files import EndpointFiles
from axoneme.core.endpoints.labels import PodLabeller
from axoneme.core.endpoints.links import EndpointLinks
from axoneme.core.endpoints.manager import EndpointManager
from axoneme.core.endpoints.objects import PolicyStatus
from axoneme.core.endpoints.parts import Address, EndpointParts, NodeFacts
from axoneme.core.endpoints.pods import pod_tables
from axoneme.core.endpoints.podsource import EndpointRefresher, PodDirectory
from axoneme.core.endpoints.policy import PolicyGate
from axoneme.core.endpoints.publisher import EndpointPublisher
from axoneme.core.endpoints.realize import Realizer
from axoneme.core.endpoints.tables import address_table, endpoint_table, interface_table
from axoneme.core.errors import ConfigError, NotReadyError
from axoneme.core.events.service import EventService
from axoneme.core.identities.allocator import IdentityAllocator
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.identities.modes import numbers_of_agent
from axoneme.core.identities.table import identity_table
from axoneme.core.ipcache.feeder import IpcacheFeeder
from axoneme.core.ipcache.generation import IpcacheGeneration, PolicyGeneration, RuntimeSlots
from axoneme.core.ipcache.ipcache import Ipcache, ipcache_table
from axoneme.core.ipcache.remote import cluster_endpoint_table
from axoneme.core.live_options import LiveOptions
from axoneme.core.metrics import MetricRegistry
from axoneme.core.model.l7 import L7Registry
from axoneme.core.model.network import NetworkState
from axoneme.core.netlink import sysctls
from axoneme.core.netlink.api import Netlink
from axoneme.core.netlink.reconciler import NetworkReconciler
from axoneme.core.nodeconfig.follow import ConfigFollower
from axoneme.core.nodes import network as node_network
from axoneme.core.nodes.directory import NodeDirectory, node_tables
from axoneme.core.nodes.identities import NodeIdentities
from axoneme.core.nodes.local import LocalNode
from axoneme.core.nodes.objects import SLICES, SOURCE
from axoneme.core.nodes.runtime import runtime_table
from axoneme.core.plugins import PluginManager
from axoneme.core.services import Services
from axoneme.core.state import Table, TableRegistry
from axoneme.core.status import StatusReport
from axoneme.core.store.model import Store
from axoneme.core.store.open import open_store
from axoneme.core.store.reflector import Reflector
from axoneme.core.tasks import TaskGroupRunner

log = logging.getLogger(__name__)

NO_ROUTER: Final[dict[int, Address]] = {
    4: IPv4Address("169.254.1.1"),
    6: IPv6Address("fe80::1"),
}


class Agent:
    """One node. Plugins get it in ``axoneme_setup_agent`` and may keep it.

    Phases that tasks may wait for: ``synced`` (the store has been read), ``maps_ready`` (maps are
    open, endpoints are restored; reconcilers may run), ``ready`` (CNI is served).
    """

    def __init__(
        self, config: Config, plugins: PluginManager, *, store: Store | None = None
    ) -> None:
        self.config = config
        self.plugins = plugins
        self.node_name = config.text("node-name")
        self.state_dir = Path(config.text("state-dir"))
        self.ipv4, self.ipv6 = config.flag("enable-ipv4"), config.flag("enable-ipv6")
        if not (self.ipv4 or self.ipv6):
            raise ConfigError("keys enable-ipv4 and enable-ipv6 are both false: nothing to do")
        self.synced, self.maps_ready, self.ready = (asyncio.Event() for _ in range(3))
        self.tables = TableRegistry()
        self.services = Services()
        self.tasks = TaskGroupRunner()
        self.metrics = MetricRegistry(config.words("metrics"))
        self.store = store or open_store(config, plugins, self.state_dir / "objects")
        self.required: list[Table[Any, Any]] = []
        """Tables whose first full content the start waits for; plugins may add theirs."""
        self.subjects: set[int] = set()
        """Identities beside the endpoints' whose policy the start waits for."""
        self.reconcilers: dict[str, Any] = {}
        self.added_reconcilers: list[Any] = []
        self.encapsulation: dict[str, int] = {}
        """Bytes that plugins, by name, put in front of packets to other nodes."""
        self.reflectors: list[Reflector[Any, Any]] = []
        self.conntrack: ConntrackCollector | None = None
        self.runtime: RuntimeSlots | None = None
        self.cilium = Traces()
        """What there is of Cilium on the node."""
        self.live_options = LiveOptions()
        """What may be changed while the agent runs; plugins add theirs."""
        self.status: str = "starting"
        """What the start is at; ``ready`` once CNI is served."""
        self._make_objects()
        self._make_network()
        self._make_endpoints()
        self._make_servers()
        live_keys.register(self)
        self.configuration = ConfigFollower(self)
        self._register_l7()
        plugins.call("axoneme_setup_agent", agent=self)
        self._open_hooks()

    def _register_l7(self) -> None:
        protocols = L7Registry()
        self.services.provide(L7Registry, protocols)
        self.plugins.call("axoneme_register_l7", protocols=protocols, config=self.config)

    @property
    def dual_stack(self) -> bool:
        """Both families are on."""
        return self.ipv4 and self.ipv6

    # Parts

    def _make_objects(self) -> None:
        config, tables = self.config, self.tables
        identities = identity_table(tables)
        labelling = [name for name, _ in self.plugins.each("axoneme_label_endpoint")]
        numbers = numbers_of_agent(config, labelling, self.store, identities)
        self.identities = IdentityAllocator(identities, numbers)
        seen, nodes = node_tables(tables)
        self.nodes = NodeDirectory(seen, nodes)
        self.node = LocalNode(self.node_name, self.store, seen, ipv4=self.ipv4, ipv6=self.ipv6)
        slices = config.flag("enable-cilium-endpoint-slice")
        self.node.announced[SOURCE] = SLICES if slices else ""  # operators keep what is read
        self.ipcache = Ipcache(ipcache_table(tables))
        self.ipcache.add_world(ipv4=self.ipv4, ipv6=self.ipv6)
        underlay = 6 if config.get("underlay-protocol") == "ipv6" else 4
        self.node_identities = NodeIdentities(
            self.identities.table,
            nodes,
            remote_labels=config.flag("enable-node-selector-labels"),
            host_labels=bool(config.get("enable-host-firewall")),
            chosen=LabelFilter.of_nodes(config.words("node-labels")),
            realised=self._policy_realised,
        )
        self.feeder = IpcacheFeeder(
            self.ipcache,
            nodes,
            cluster_endpoint_table(tables),
            underlay=underlay,
            identity_of=self.node_identities.number,
        )
        self.node_identities.on_change(self.feeder.refresh)
        self.policy_generation = PolicyGeneration(self._slots, lambda: self._slot("POLICY_GEN"))
        self.ipcache_generation = IpcacheGeneration(self._slots, lambda: self._slot("IPCACHE_GEN"))
        self.services.provide(PolicyGeneration, self.policy_generation)
        self.services.provide(IpcacheGeneration, self.ipcache_generation)
        runtime_table(tables)

    def _make_network(self) -> None:
        sysctls.use(self.config.text("procfs"))
        self.netlink = Netlink()
        self.network = NetworkReconciler(self.netlink, self._describe_network)
        self.events = EventService(self.tables, self.node_name)
        self.datapath = packet_path.new_manager(self)
        self.tables.add(self.datapath.attachments)

    def _make_endpoints(self) -> None:
        config, tables = self.config, self.tables
        pods, namespaces = pod_tables(tables)
        hooks = PluginHooks(self)
        directory = PodDirectory(
            pods,
            namespaces,
            labeller=PodLabeller.of(config, self.plugins.each("axoneme_label_pod")),
            relabel=hooks.relabel,
            away=self.store.away,
        )
        table = endpoint_table(tables)
        self.realizer = Realizer(
            address_table(tables),
            interface_table(tables),
            self.datapath.attachments,
            self.ipcache,
            lambda: self.services.find(PolicyGate),  # type: ignore[type-abstract]
        )
        self.endpoints = EndpointManager(
            EndpointParts(
                table,
                identities=self.identities,
                realizer=self.realizer,
                links=EndpointLinks(self.netlink),
                files=EndpointFiles(self.state_dir / "endpoints"),
                hooks=hooks,
                pods=directory,
                node=NodeFacts(self.ipv4, self.ipv6, self.device_mtu, lambda: self.gateways),
                published=lambda: self.store.list("CiliumEndpoint"),
            )
        )
        grace = config.seconds("identity-change-grace-period")
        self.refresher = EndpointRefresher(directory, self.endpoints, grace=grace)
        self.publisher = EndpointPublisher(
            self.store,
            table,
            pods,
            lambda: self.node.row,
            lambda: self.services.find(PolicyStatus),  # type: ignore[type-abstract]
            objects=tables["cluster_endpoints"],
            busy=lambda: self.endpoints.adding > 0,
        )

    def _make_servers(self) -> None:
        self.api = ApiRouter()
        self.server = ApiServer(self.api, Path(self.config.text("socket-path")))
        self.cni = CniServer(
            self.endpoints, lambda: self.gateways, self.why_not_ready, self.state_dir
        )

    def _open_hooks(self) -> None:
        """What plugins add to after they are set up."""
        methods.register(self.api, self)
        self.configuration.register()
        self.cni.register(self.api)
        self.events.register_api(self.api)
        self.plugins.call("axoneme_register_api", api=self.api, agent=self)
        self.plugins.call("axoneme_register_events", events=self.events.registry)
        core_metrics.register(self.metrics, self)
        register_metrics(self.metrics, self)
        self.events.register_metrics(self.metrics)
        self.plugins.call("axoneme_register_metrics", metrics=self.metrics, agent=self)

    # What parts ask of each other

    @property
    def gateways(self) -> Sequence[Address]:
        """The next hops of pods' default routes: the router addresses.

        A family without a pod CIDR (the runtime chose the address) has a link-local one; pods
        get its hardware address along, so nobody need hold it.
        """
        found: dict[int, Address] = {a.version: a for a in self.node.routers}
        return [found.get(v, a) for v, a in NO_ROUTER.items()]

    def device_mtu(self) -> int:
        """The key ``mtu``, or what the native devices can carry."""
        return self.config.number("mtu") or self.node.devices.mtu

    def add_reconciler(self, reconciler: Any) -> None:
        """Run a plugin's reconciler from the moment at which the maps are open.

        To be called in ``axoneme_setup_agent``. The start waits for the first full pass, before
        programs are attached: no packet meets a new program with an empty map.
        """
        self.reconcilers[reconciler.name] = reconciler
        self.added_reconcilers.append(reconciler)

    def pod_mtu(self) -> int:
        """What a pod may send to another node: less what plugins need for encapsulation."""
        return self.device_mtu() - sum(self.encapsulation.values())

    def _policy_realised(self) -> Awaitable[None] | None:
        """See :class:`NodeIdentities`: before the agent is ready its maps follow as a whole."""
        gate = self.services.find(PolicyGate)  # type: ignore[type-abstract]
        return gate.realised() if gate is not None and self.ready.is_set() else None

    def why_not_ready(self) -> str:
        """What is missing until CNI can be served; empty when ready."""
        if self.ready.is_set():
            return ""
        reasons = (self.node.error, self.store.away())
        return f"the agent is {self.status}" + "".join(
            f": {r}" for r in dict.fromkeys(reasons) if r
        )

    def report(self, status: StatusReport) -> None:
        """Add what the agent itself knows to a status report."""
        health.report(status, self)

    def _describe_network(self) -> NetworkState:
        state = NetworkState()
        node_network.describe(
            state, self.node, self.tables["endpoints"].rows(), ipv4=self.ipv4, ipv6=self.ipv6
        )
        for _, function in self.plugins.each("axoneme_describe_network"):
            function(state=state, agent=self)
        return state

    def _slots(self) -> RuntimeSlots:
        if self.runtime is None:
            raise NotReadyError("axo_runtime is not open yet")
        return self.runtime

    def _slot(self, name: str) -> int:
        return packet_path.runtime_slots(self.datapath)[name]

    # Running

    async def run(self) -> None:
        """Run until cancelled. A second agent for the same state directory is refused."""
        # The default of 5 ms is what the loop waits when a thread of a reconciler computes.
        sys.setswitchinterval(0.0005)
        with state_lock(self.state_dir):
            startup = Startup(self)
            try:
                self.tasks.fatal = asyncio.get_running_loop().create_future()
                await startup.start()
                raise await self.tasks.fatal
            finally:
                await asyncio.shield(startup.stop())
