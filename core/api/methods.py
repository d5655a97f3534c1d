"""The core's methods of the local API; ``register(api, agent)`` adds them all.

Methods that only read tables answer from the loop; those that read the kernel's maps do it in a
thread. Which of several forms of a name is meant (id, pod, address) is decided here, once, so that
every client takes the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import attrs

from axoneme.core.api import dump, views
from axoneme.core.api.core_metrics import traffic
from axoneme.core.api.plugin_views import plugin_detail
from axoneme.core.api.report import build_report
from axoneme.core.endpoints.objects import PolicyStatus
from axoneme.core.errors import ApiError, NotFoundError, NotReadyError
from axoneme.core.live_options import HOST, NODE
from axoneme.core.model.endpoint import Endpoint
from axoneme.core.model.labels import LabelSet
from axoneme.core.state.registry import plain

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter
    from axoneme.core.datapath.maps import BpfMap

Params = dict[str, Any]


def register(api: ApiRouter, agent: Agent) -> None:
    """Add every method of the core to the router."""
    methods = Methods(agent)
    for name, method in {
        "status.get": methods.status,
        "config.get": methods.config,
        "config.warnings": methods.config_warnings,
        "plugin.list": methods.plugin_list,
        "plugin.get": methods.plugin_get,
        "state.tables": methods.state_tables,
        "state.rows": methods.state_rows,
        "endpoint.list": methods.endpoint_list,
        "endpoint.get": methods.endpoint_get,
        "config.live": methods.live_options,
        "config.change": methods.live_change,
        "identity.list": methods.identity_list,
        "identity.get": methods.identity_get,
        "ip.list": methods.ip_list,
        "node.list": methods.node_list,
        "map.list": methods.map_list,
        "map.get": methods.map_get,
        "bpf.ct": methods.bpf_ct,
        "bpf.ipcache": methods.bpf_ipcache,
        "bpf.metrics": methods.bpf_metrics,
        "metrics.list": methods.metrics_list,
    }.items():
        api.add(name, method)


class Methods:
    """Methods bound to one agent. Each takes the params and returns what JSON can hold."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    async def status(self, params: Params) -> Any:
        """The status report."""
        return build_report(self.agent).as_dict()

    async def config(self, params: Params) -> Any:
        """Every setting, or the one of ``key``."""
        settings = self.agent.config.settings()
        key = params.get("key")
        if key is not None:
            self.agent.config[text(params, "key")]
            settings = [setting for setting in settings if setting.key == key]
        return [attrs.asdict(setting) for setting in settings]

    async def config_warnings(self, params: Params) -> Any:
        """What was odd about the sources, unknown keys above all."""
        return list(self.agent.config.warnings)

    async def plugin_list(self, params: Params) -> Any:
        """Every plugin that was found."""
        return [attrs.asdict(info) for info in self.agent.plugins.infos]

    async def plugin_get(self, params: Params) -> Any:
        """One plugin with its options and hooks."""
        return plugin_detail(self.agent.plugins, self.agent.config, text(params, "name"))

    # Tables

    async def state_tables(self, params: Params) -> Any:
        """Name, number of rows, revision and columns of each table."""
        return [
            {
                "name": table.name,
                "rows": len(table),
                "revision": table.revision,
                "initialized": table.initialized.is_set(),
                "columns": columns(table.row_type),
            }
            for table in sorted(self.agent.tables, key=lambda table: table.name)
        ]

    async def state_rows(self, params: Params) -> Any:
        """The rows of ``table``, as they are."""
        return self.agent.tables.rows_as_dicts(text(params, "table"))

    # Objects of the core

    def _endpoint_view(self, row: Endpoint) -> dict[str, Any]:
        policy = self.agent.services.find(PolicyStatus)  # type: ignore[type-abstract]
        if policy is None:
            return views.endpoint_view(row, None)
        audit = policy.audits(row.id)
        return views.endpoint_view(row, policy.status_of(row.identity), audit=audit)

    async def endpoint_list(self, params: Params) -> Any:
        """Every endpoint of this node, by id."""
        rows = sorted(self.agent.tables["endpoints"].rows(), key=lambda row: row.id)
        return [self._endpoint_view(row) for row in rows]

    async def endpoint_get(self, params: Params) -> Any:
        """The endpoint that ``id`` names: number, namespace/pod, address, or attachment."""
        return self._endpoint_view(self._endpoint(text(params, "id")))

    def _endpoint(self, name: str) -> Endpoint:
        rows: list[Endpoint] = self.agent.tables["endpoints"].rows()
        for row in rows:
            names = {str(row.id), row.name, str(row.ipv4), str(row.ipv6), row.attachment_id}
            if name in names or row.attachment_id.split(":")[0] == name:
                return row
        raise NotFoundError(
            f"no endpoint {name!r} on this node", hint="axoneme endpoint list shows them"
        )

    async def live_options(self, params: Params) -> Any:
        """Options that may change while the agent runs, of the node or of an endpoint ``id``."""
        return self.agent.live_options.view(self._scope(params))

    async def live_change(self, params: Params) -> Any:
        """Set ``values``, a mapping of options, for the node or an endpoint ``id``: all or none."""
        values, scope = params.get("values"), self._scope(params)
        if not isinstance(values, dict) or not values:
            raise ApiError("values must be a mapping of options", code="bad-request")
        options = self.agent.live_options
        changed = await options.apply({n: str(v) for n, v in values.items()}, scope)
        return {"changed": changed, "options": options.view(scope)}

    def _scope(self, params: Params) -> int:
        if not params.get("id"):
            return NODE
        name = text(params, "id")
        return HOST if name == "host" else self._endpoint(name).id

    def _users(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for row in self.agent.tables["endpoints"].rows():
            counts[row.identity] = counts.get(row.identity, 0) + 1
        return counts

    async def identity_list(self, params: Params) -> Any:
        """Every identity that this node knows, by number."""
        users = self._users()
        rows = sorted(self.agent.tables["identities"].rows(), key=lambda row: row.id)
        return [views.identity_view(row, users.get(row.id, 0)) for row in rows]

    async def identity_get(self, params: Params) -> Any:
        """The identity of number ``id``."""
        name = text(params, "id")
        row = self.agent.tables["identities"].get(int(name)) if name.isdecimal() else None
        if row is None:
            raise NotFoundError(f"no identity {name!r}", hint="axoneme identity list shows them")
        return views.identity_view(row, self._users().get(row.id, 0))

    def _labels(self, identity: int) -> list[str]:
        row = self.agent.tables["identities"].get(identity)
        return (row.labels if row is not None else LabelSet()).texts()

    async def ip_list(self, params: Params) -> Any:
        """The ipcache as the agent wants it; with ``address`` only prefixes that hold it."""
        rows = self.agent.tables["ipcache"].rows()
        if params.get("address"):
            wanted = network(text(params, "address"))
            rows = [
                row
                for row in rows
                if row.prefix.version == wanted.version and wanted.subnet_of(row.prefix)
            ]
        rows.sort(key=lambda row: (row.prefix.version, row.prefix))
        return [views.ip_view(row, self._labels(row.identity)) for row in rows]

    async def node_list(self, params: Params) -> Any:
        """Every node, by name."""
        rows = sorted(self.agent.tables["nodes"].rows(), key=lambda row: row.name)
        return [views.node_view(row) for row in rows]

    # The kernel

    def _maps(self) -> Mapping[str, BpfMap]:
        datapath = getattr(self.agent, "datapath", None)
        maps: Mapping[str, BpfMap] | None = getattr(datapath, "maps", None)
        if not maps:
            raise NotReadyError("the packet path is not loaded yet")
        return maps

    def _map(self, name: str) -> BpfMap:
        maps = self._maps()
        found = maps.get(name) or maps.get(f"axo_{name}")
        if found is None:
            raise NotFoundError(f"no map {name!r}", hint="axoneme map list shows them")
        return found

    async def map_list(self, params: Params) -> Any:
        """Every map of the packet path."""
        root = self.agent.config.path("bpf-root") / "axoneme" / "maps"
        views_ = []
        for name, bpf_map in sorted(self._maps().items()):
            path = str(root / name) if (root / name).exists() else ""
            views_.append(dump.map_view(name, bpf_map, path=path))
        return views_

    async def map_get(self, params: Params) -> Any:
        """The entries of the map ``name``, decoded by its C layout."""
        name = text(params, "name")
        bpf_map = self._map(name)
        return {"name": name} | await asyncio.to_thread(dump.entries, bpf_map)

    async def bpf_ct(self, params: Params) -> Any:
        """Connections that the kernel tracks."""
        maps = self._maps()
        found = [maps[name] for name in dump.CONNTRACK if name in maps]
        return await asyncio.to_thread(dump.conntrack, found)

    async def bpf_ipcache(self, params: Params) -> Any:
        """The ipcache as the kernel has it."""
        return await asyncio.to_thread(dump.ipcache, self._map("axo_ipcache"))

    async def bpf_metrics(self, params: Params) -> Any:
        """Packets and bytes by reason and direction."""
        self._maps()
        return traffic(self.agent)

    async def metrics_list(self, params: Params) -> Any:
        """Current values; ``pattern`` is a part of the name."""
        samples = self.agent.metrics.samples(str(params.get("pattern") or ""))
        return [
            {"name": s.name, "labels": dict(s.labels), "value": plain(s.value), "type": s.type}
            for s in samples
        ]


def text(params: Params, key: str) -> str:
    """A parameter that must be there, as text of a sane length."""
    value = params.get(key)
    if value is None or isinstance(value, dict | list) or not 0 < len(str(value)) <= 1024:
        raise ApiError(f"parameter {key} is missing or bad", code="bad-request")
    return str(value)


def network(value: str) -> Any:
    """An address or prefix."""
    try:
        return ip_network(value, strict=False) if "/" in value else ip_network(ip_address(value))
    except ValueError:
        raise ApiError(f"{value!r} is not an IP address or prefix", code="bad-request") from None


def columns(row_type: type[Any]) -> list[str]:
    """Names of a row's columns."""
    return [a.name for a in attrs.fields(row_type)] if attrs.has(row_type) else []
