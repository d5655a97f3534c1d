"""What the hooks of the masquerade plugin do with an agent."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.reconcile import Reconciler
from axoneme.core.reconcile.maps import MapTarget
from axoneme.core.state import Table
from axoneme.core.status import Health
from axoneme.plugins.masquerade.compute import MasqueradeAddress, device_address, key_type
from axoneme.plugins.masquerade.config import MasqueradeSettings
from axoneme.plugins.masquerade.datapath import DEVICE_MAP, NAT_MAPS, encode_address
from axoneme.plugins.masquerade.gc import NatCollector, NatTable
from axoneme.plugins.masquerade.ipmasq import ConfigFile, IpmasqKey, Keeps, KeptNetwork
from axoneme.plugins.masquerade.ipmasq import encode as encode_network
from axoneme.plugins.masquerade.rows import DeviceAddresses, DeviceKey, NatEntry
from axoneme.plugins.masquerade.skip import KeptPod, PodKey, kept, other_pools
from axoneme.plugins.masquerade.skip import encode as encode_pod
from axoneme.plugins.masquerade.views import mapping_row

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.status import StatusReport

log = logging.getLogger(__name__)

FILE_SECONDS: Final = 1.0
FULL: Final = 0.9
"""Share of a table from which on it is said to be full."""
IPMASQ_MAP: Final = "axo_ipmasq"
SKIP_MAP: Final = "axo_masq_skip"


class Masquerade:
    """Masquerading of one agent; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self.settings = MasqueradeSettings.from_config(agent.config)
        self.addresses: Table[int, MasqueradeAddress] = agent.tables.create(
            "masquerade_addresses", MasqueradeAddress, key=lambda r: r.ifindex
        )
        self.collector: NatCollector | None = None
        self._agent = agent
        if not agent.config["enable-bpf-masquerade"]:
            log.warning("enable-bpf-masquerade=false has no effect: masquerading is always in BPF")
        self.networks: Table[Any, KeptNetwork] = agent.tables.create(
            "ipmasq", KeptNetwork, key=lambda r: r.network
        )
        self.skips: Table[Any, KeptPod] = agent.tables.create(
            "masquerade_skips", KeptPod, key=lambda r: r.address
        )
        for name in ("pods", "endpoints"):
            agent.tables[name].subscribe(lambda _: self._pods_changed())
        self.file: ConfigFile | None = None
        if agent.config["enable-ip-masq-agent"]:
            self.file = ConfigFile(Path(str(agent.config["ip-masq-agent-config-path"])))
            agent.tasks.spawn("ip-masq-agent", self._follow_file)
        agent.tasks.spawn("masquerade addresses", self._keep_addresses)
        agent.tasks.spawn("nat garbage", self._collect)

    def links_changed(self) -> None:
        """Which address stands for pods on which device."""
        rows = [
            device_address(d.index, d.name, d.addresses, self.settings)
            for d in self._agent.node.devices.devices
        ]
        self.addresses.replace(rows)

    def _pods_changed(self) -> None:
        tables, config = self._agent.tables, self._agent.config
        networks = (
            other_pools(self._agent.node.pools, config.get("ipam-default-ip-pool", "default"))
            if config["only-masquerade-default-pool"]
            else ()
        )
        self.skips.replace(kept(tables["pods"].rows(), tables["endpoints"].rows(), networks))

    async def _follow_file(self) -> None:
        assert self.file is not None
        self.networks.replace(KeptNetwork(n) for n in self.file.networks)
        while True:
            if await asyncio.to_thread(self.file.look):
                self.networks.replace(KeptNetwork(n) for n in self.file.networks)
                log.info("ip-masq-agent", extra={"networks": len(self.file.networks)})
            await asyncio.sleep(FILE_SECONDS)

    async def _keep_addresses(self) -> None:
        await self._agent.maps_ready.wait()
        for name, table, key, encode in (
            (IPMASQ_MAP, self.networks, IpmasqKey, encode_network),
            (SKIP_MAP, self.skips, PodKey, encode_pod),
        ):
            kept_map = self._agent.datapath.typed(name, key, Keeps)
            kept_rows: Reconciler[Any, Any] = Reconciler(
                table.name, table, MapTarget(name, kept_map, encode)
            )
            self._agent.reconcilers[table.name] = kept_rows
            self._agent.tasks.spawn(f"masquerade: {table.name}", kept_rows.run)
        typed = self._agent.datapath.typed(DEVICE_MAP, DeviceKey, DeviceAddresses)
        target = MapTarget[int, MasqueradeAddress](DEVICE_MAP, typed, encode_address)
        reconciler = Reconciler("masquerade", self.addresses, target)
        self._agent.reconcilers["masquerade"] = reconciler
        await reconciler.run()

    async def _collect(self) -> None:
        await self._agent.maps_ready.wait()
        longest = self._agent.config.seconds("conntrack-gc-max-interval")
        wanted = self._agent.config.seconds("conntrack-gc-interval")
        collector = NatCollector({f: NatTable(t) for f, t in self._tables().items()})
        if longest:
            collector.pace.longest = longest
        self.collector = collector
        while True:
            await asyncio.sleep(wanted or collector.pace.interval)
            removed = await asyncio.to_thread(collector.run)
            if removed:
                log.debug("nat mappings removed", extra={"count": removed})

    def _tables(self) -> dict[int, Any]:
        return {
            family: self._agent.datapath.typed(name, key_type(family), NatEntry)
            for family, name in NAT_MAPS.items()
        }

    async def kept(self, params: dict[str, Any]) -> Any:
        """API ``bpf.ipmasq``: the networks as the kernel has them."""

        def read() -> list[dict[str, Any]]:
            typed = self._agent.datapath.typed(IPMASQ_MAP, IpmasqKey, Keeps)
            return [
                {"prefix": f"{k.addr}/{k.prefixlen - (96 if k.addr.version == 4 else 0)}"}
                for k, _ in typed.items()
            ]

        return await asyncio.to_thread(read)

    async def mappings(self, params: dict[str, Any]) -> Any:
        """API ``bpf.nat``: every mapping, read from the kernel in a thread."""

        def read() -> list[dict[str, Any]]:
            now = int(time.monotonic())
            return [
                mapping_row(key, entry, now)
                for table in self._tables().values()
                for key, entry in table.items()
            ]

        return await asyncio.to_thread(read)

    def report(self, report: StatusReport) -> None:
        """Line ``Masquerading`` in Cilium's shape, component ``masquerade``."""
        devices = " ".join(sorted(r.ifname for r in self.addresses))
        words = []
        for family, on in ((4, self.settings.ipv4), (6, self.settings.ipv6)):
            exempt = [str(n) for n in self.settings.exempt if n.version == family]
            words.append(f"IPv{family}: {'Enabled' if on else 'Disabled'}")
            if on and exempt:
                words[-1] = f"IPv{family}: Enabled (not to {', '.join(exempt)})"
        how = "BPF (ip-masq-agent)" if self.file is not None else "BPF"
        report.line("Masquerading", f"{how}   [{devices}]   [{', '.join(words)}]")
        lacking = [
            f"{row.ifname} has no IPv{family} address"
            for row in self.addresses
            for family, on, own in (
                (4, self.settings.ipv4, row.ipv4),
                (6, self.settings.ipv6, row.ipv6),
            )
            if on and own is None
        ]
        scanned = self.collector.scanned if self.collector else {}
        lacking += [
            f"axo_nat{family} holds {count} of {self.settings.entries} entries: raise "
            "bpf-nat-global-max"
            for family, count in scanned.items()
            if count > FULL * self.settings.entries
        ]
        if self.file is not None and self.file.error:
            lacking.append(self.file.error)
        health = Health.WARNING if lacking else Health.OK
        report.component("masquerade", health, "; ".join(lacking))

    def register_metrics(self, metrics: MetricRegistry) -> None:
        """Sizes of the tables and what the collector did."""
        metrics.collect_gauge(
            "nat_entries", "Entries of the NAT tables at the last scan", ("family",), self._entries
        )
        metrics.collect_counter(
            "nat_removed_total",
            "Entries that garbage collection removed",
            (),
            lambda: [((), float(self.collector.removed if self.collector else 0))],
        )

    def _entries(self) -> list[tuple[tuple[str, ...], float]]:
        scanned = self.collector.scanned if self.collector else {}
        return [((f"ipv{family}",), float(count)) for family, count in scanned.items()]
