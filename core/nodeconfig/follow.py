"""Following a node's configuration while its agent runs.

    files, every few seconds ─┐
    ConfigMap ────────────────┼─► wanted ─► differs from what runs? ─► applied, where the key
    CiliumNodeConfigs, Node ──┘                                        can be; else reported

A key that cannot be applied waits for a restart, and is named in the status, in a metric, in an
Event on the Node, and by ``axoneme config drift``. What cannot be read changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from axoneme.core.config import BadValue, Config
from axoneme.core.errors import ApiError, AxonemeError, ConfigError
from axoneme.core.events.model import AgentNotice
from axoneme.core.nodeconfig import drift as drifts
from axoneme.core.nodeconfig.announce import DriftEvents
from axoneme.core.nodeconfig.drift import Cluster, Drift
from axoneme.core.nodeconfig.files import fingerprint
from axoneme.core.nodeconfig.objects import (
    CONFIG_MAP,
    KIND,
    Layer,
    decode_config_map,
    decode_node_config,
)
from axoneme.core.status import Health, StatusReport
from axoneme.core.store.reflector import Reflector

if TYPE_CHECKING:
    from axoneme.core.agent.agent import Agent

log = logging.getLogger(__name__)

DYNAMIC: Final = "enable-dynamic-config"
CHECKER: Final = "enable-drift-checker"
IGNORED: Final = "ignore-flags-drift-checker"
FILE_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 0.2
"""Changes within this time are looked at together."""
RETRY_SECONDS: Final = 60.0
"""After which a value that could not be applied is tried again."""
SHOWN: Final = 5
"""Keys that the status names; the rest is counted."""


class ConfigFollower:
    """One per agent; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self.on = agent.config.flag(DYNAMIC)
        self.rows: tuple[Drift, ...] = ()
        """Keys that wait for a restart."""
        self.problem = ""
        """Why the files cannot be read."""
        self._agent = agent
        self._config = agent.config
        self._changed = asyncio.Event()
        self._labels: Mapping[str, str] | None = None
        self._tables: tuple[Any, Any] | None = None
        self._kubernetes: DriftEvents | None = None
        for key in (CHECKER, IGNORED):  # read at each look
            agent.live_options.follow(key, lambda _: None)
        if not self.on:
            return
        if agent.config.text("store") == "kubernetes":
            self._follow_cluster()
        agent.tasks.spawn("configuration files", self._follow_files)
        agent.tasks.spawn("configuration", self._run)

    # Sources

    def _follow_cluster(self) -> None:
        agent, namespace = self._agent, self._config.text("k8s-namespace")
        maps = agent.tables.create("config_maps", Layer, key=lambda row: row.key)
        configs = agent.tables.create("node_configs", Layer, key=lambda row: row.key)
        self._tables = (maps, configs)
        self._kubernetes = DriftEvents(agent.store, agent.node_name)
        agent.tasks.spawn("events of configuration", self._kubernetes.run)
        reflectors = (
            Reflector(
                agent.store,
                "ConfigMap",
                maps,
                decode_config_map,
                name=CONFIG_MAP,
                namespace=namespace,
            ),
            Reflector(agent.store, KIND, configs, decode_node_config, namespace=namespace),
        )
        for table, reflector in zip(self._tables, reflectors, strict=True):
            table.subscribe(lambda _: self._changed.set())
            agent.reflectors.append(reflector)
            agent.tasks.spawn(f"reflect {reflector.kind}", reflector.run)
            agent.tasks.spawn(f"await {table.name}", partial(self._await, table))
        agent.tasks.spawn("labels for configuration", self._follow_labels)

    async def _await(self, table: Any) -> None:
        await table.initialized.wait()
        self._changed.set()

    async def _follow_labels(self) -> None:
        async for event in self._agent.store.watch("Node", self._agent.node_name):
            if event.obj is not None and dict(event.obj.labels) != self._labels:
                self._labels = dict(event.obj.labels)
                self._changed.set()
            elif event.type == "synced" and self._labels is None:
                self._labels = {}
                self._changed.set()

    async def _follow_files(self) -> None:
        seen = await asyncio.to_thread(fingerprint, self._config.sources)
        while True:
            await asyncio.sleep(FILE_SECONDS)
            now = await asyncio.to_thread(fingerprint, self._config.sources)
            if now != seen:
                seen = now
                self._changed.set()

    def _cluster(self) -> Cluster | None:
        """The server's objects, once all that count have been heard of."""
        if self._tables is None or not all(t.initialized.is_set() for t in self._tables):
            return None
        maps, configs = self._tables
        layers = tuple(configs.rows())
        if layers and self._labels is None:
            return None
        return Cluster(next(iter(maps.rows()), None), layers, self._labels or {})

    # Looking

    async def _run(self) -> None:
        await self._agent.ready.wait()
        while True:
            self._changed.clear()
            failed = await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if failed else None):
                    await self._changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)

    async def look(self) -> bool:
        """Compare, apply what can be applied, report the rest; whether something failed."""
        try:
            wanted, bad = await asyncio.to_thread(self._judge, self._cluster())
        except ConfigError as error:
            if self.problem != str(error):
                log.warning("configuration cannot be read", extra={"error": str(error)})
            self.problem = str(error)
            return True
        self.problem = ""
        for warning in wanted.warnings:
            if warning not in self._config.warnings:
                log.warning(warning)
        self._config.warnings = wanted.warnings
        rows = drifts.refused(self._config, bad)
        for key in list(drifts.changed(self._config, wanted)):
            problem = ""
            if self._agent.live_options.follows(key):
                problem = await self._apply(key, wanted)
                if not problem:
                    continue
            rows.append(drifts.drift(self._config, wanted, key, problem))
        self._report(rows)
        return any(row.problem for row in self.rows)

    def _judge(self, cluster: Cluster | None) -> tuple[Config, list[BadValue]]:
        """In a thread: files are read."""
        raw = drifts.over(self._config.sources.read(), cluster)
        return Config.judge(self._config.registry, raw, self._config)

    async def _apply(self, key: str, wanted: Config) -> str:
        """Apply one key; why it failed, or nothing."""
        config = self._config
        before, origin = config[key], config.origin(key)
        row = drifts.drift(config, wanted, key)
        said = {"key": key, "before": row.running, "now": row.wanted, "source": row.source}
        config.adopt(key, wanted[key], wanted.origin(key))
        try:
            await self._agent.live_options.adopt(key, wanted[key])
        except Exception as error:
            config.adopt(key, before, origin)
            text = str(error) if isinstance(error, AxonemeError) else repr(error)
            log.warning("configuration key not applied", extra={**said, "error": text})
            return f"not applied: {text}"
        log.info("configuration key applied", extra=said)
        self._notify(f"configuration key applied: {key}={row.wanted}", **said)
        return ""

    def _report(self, rows: list[Drift]) -> None:
        ignored = set(self._config.words(IGNORED))
        on = self._config.flag(CHECKER)
        new = tuple(sorted((r for r in rows if on and r.key not in ignored), key=lambda r: r.key))
        if new and new != self.rows:
            extra = {row.key: row.problem or row.wanted for row in new}
            log.warning("configuration differs from what runs", extra={"keys": extra})
            self._notify(f"configuration differs from what runs: {', '.join(extra)}", keys=extra)
        elif self.rows and not new:
            log.info("configuration is what runs")
            self._notify("configuration is what runs", keys={})
        self.rows = new
        if self._kubernetes is not None:
            self._kubernetes.tell(new)

    def _notify(self, text: str, **facts: Any) -> None:
        """An event for ``axoneme monitor -t agent``."""
        self._agent.events.notify(AgentNotice.MESSAGE, text, **facts)

    # Who asks

    def register(self) -> None:
        """Add the API's method and the metric."""
        self._agent.api.add("config.drift", self._view)
        if self.on:
            self._agent.metrics.collect_gauge(
                "drift_checker_config_delta",
                "configuration keys that run with another value than is wanted",
                [],
                lambda: [((), len(self.rows))],
            )

    async def _view(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        for key, on in ((DYNAMIC, self.on), (CHECKER, self._config.flag(CHECKER))):
            if not on:
                raise ApiError(f"drift is not looked for: key {key} is false", code="failed")
        return [attrs.asdict(row) for row in self.rows]

    def report(self, status: StatusReport) -> None:
        """A warning while something waits for a restart or cannot be read."""
        if self.problem:
            status.component("configuration", Health.WARNING, self.problem)
        elif self.rows:
            text = drifts.summary(self.rows, SHOWN)
            status.component("configuration", Health.WARNING, text)
