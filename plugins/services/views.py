"""Services as the API hands them out: what the agent wants, and what the kernel has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.errors import NotFoundError
from axoneme.core.model.balancing import (
    PROTOCOL_NAMES,
    Address,
    Backend,
    Flag,
    Frontend,
    FrontendKey,
    Kind,
    ServicePort,
)
from axoneme.plugins.services import kernel

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter

CHUNK: Final = 1000
"""Rows of one event of a stream."""
_FLAGS: Final = (
    (Flag.LOCAL_OUT, "Local"),
    (Flag.LOCAL_IN, "InternalLocal"),
    (Flag.CLUSTER_ONLY, "non-routable"),
    (Flag.RANGES, "check source-range"),
    (Flag.RANGES_DENY, "deny"),
    (Flag.DSR, "dsr"),
)


def side(address: Address | None, port: int, version: int = 0) -> str:
    """``10.0.0.1:80``, ``[fd00::1]:80``; no address: all of the node's."""
    if address is None or int(address) == 0:
        six = version == 6 or isinstance(address, IPv6Address)
        return f"[::]:{port}" if six else f"0.0.0.0:{port}"
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def frontend_text(key: FrontendKey) -> str:
    """With its protocol."""
    proto = PROTOCOL_NAMES.get(key.proto, "ANY" if not key.proto else str(key.proto))
    return f"{side(key.address, key.port, key.version)}/{proto}"


def backend_text(backend: Backend) -> str:
    """With its protocol."""
    return f"{side(backend.address, backend.port)}/{PROTOCOL_NAMES[backend.proto]}"


def flag_words(flags: int, kind: int, affinity: int) -> list[str]:
    """Kind first, then what is special; Cilium's words."""
    words = [Kind(kind).text] if kind else []
    words += [word for flag, word in _FLAGS if flags & flag]
    if flags & Flag.LOCAL_OUT and kind != Kind.CLUSTER_IP:
        words.insert(2, "two-scopes")
    if affinity:
        words.append("sessionAffinity")
    return words


def service_row(row: ServicePort, frontend: Frontend) -> dict[str, Any]:
    """A line of ``service list``."""
    preferred = set(row.chosen_local if frontend.local_out else row.chosen)
    return {
        "id": frontend.id,
        "frontend": frontend_text(frontend.key),
        "type": frontend.kind.text,
        "service": f"{row.key.namespace}/{row.key.service}:{row.key.port}",
        "algorithm": row.algorithm,
        "session-affinity-seconds": row.affinity_seconds,
        "flags": flag_words(int(frontend.flags), 0, row.affinity_seconds),
        "source-ranges": [str(n) for n in row.ranges],
        "backends": [
            {
                "address": backend_text(b),
                "state": b.state.text,
                "node": b.node,
                "zone": b.zone,
                "preferred": b in preferred,
            }
            for b in row.backends
        ],
    }


def service_rows(rows: Iterable[ServicePort]) -> list[dict[str, Any]]:
    """All of them by id."""
    found = [service_row(row, f) for row in rows for f in row.frontends]
    return sorted(found, key=lambda r: int(r["id"]))


class KernelView:
    """The maps of load balancing, read when somebody asks. Blocking."""

    def __init__(self, agent: Agent) -> None:
        self._typed = {
            name: agent.datapath.typed(name, *models) for name, models in kernel.MODELS.items()
        }

    def frontends(self) -> list[dict[str, Any]]:
        """``--frontends``: address and number of the set."""
        return [
            {"frontend": frontend_text(kernel.read_key(k)), "id": v.id, "sets": list(v.sets)}
            for k, v in self._typed[kernel.FRONTENDS].items()
        ]

    def backends(self) -> list[dict[str, Any]]:
        """``--backends``: number and address."""
        return [
            {"id": k.id, "address": _backend(v)} for k, v in self._typed[kernel.BACKENDS].items()
        ]

    def revnat(self) -> list[dict[str, Any]]:
        """``--revnat``: number and name of a frontend."""
        return [
            {"id": k.id, "address": side(v.addr, v.port)}
            for k, v in self._typed[kernel.NAMES].items()
        ]

    def ranges(self) -> list[dict[str, Any]]:
        """``--source-ranges``: network and number of the service's port."""
        return [
            {"range": f"{k.addr}/{k.prefixlen - 32 - (96 if k.addr.version == 4 else 0)}",
             "service": k.service}
            for k, _ in self._typed[kernel.RANGES].items()
        ]  # fmt: skip

    def slots(self) -> list[dict[str, Any]]:
        """Each frontend with its slots; a frontend with two scopes shows the outsiders' first."""
        slots: dict[int, dict[int, int]] = {}
        for key, value in self._typed[kernel.SLOTS].items():
            slots.setdefault(key.set, {})[key.slot] = value.backend
        backends = {k.id: _backend(v) for k, v in self._typed[kernel.BACKENDS].items()}
        found: list[dict[str, Any]] = []
        for key, value in self._typed[kernel.FRONTENDS].items():
            found += _lines(frontend_text(kernel.read_key(key)), value, slots, backends)
        return found


def _backend(value: kernel.KernelBackend) -> str:
    proto = PROTOCOL_NAMES.get(value.proto, str(value.proto))
    return f"{side(value.addr, value.port)}/{proto}"


def _lines(
    text: str,
    value: kernel.KernelFrontend,
    slots: Mapping[int, Mapping[int, int]],
    backends: Mapping[int, str],
) -> Iterable[dict[str, Any]]:
    words = flag_words(value.flags, value.kind, value.affinity_s)
    yield {"frontend": text, "slot": 0, "id": value.id, "backend": "0.0.0.0:0", "flags": words}
    slot = 0
    for number in dict.fromkeys(value.sets):
        members = slots.get(number, {})
        for place in range(1, members.get(0, 0) + 1):
            slot += 1
            backend = members.get(place, 0)
            shown = backends.get(backend, f"backend {backend} not found")
            yield {"frontend": text, "slot": slot, "id": value.id, "backend": shown, "flags": []}


VIEWS: Final = ("slots", "frontends", "backends", "revnat", "ranges")


def register_api(api: ApiRouter, agent: Agent) -> None:
    """``service.list``, ``service.get``, ``bpf.lb``, ``bpf.maglev``."""
    ports = agent.tables["service_ports"]

    async def list_services(params: dict[str, Any]) -> Any:
        return service_rows(ports.rows())

    async def get_service(params: dict[str, Any]) -> Any:
        number = int(params.get("id", 0))
        for row in service_rows(ports.rows()):
            if row["id"] == number:
                return row
        raise NotFoundError(f"no service has the id {number}", hint="axoneme service list")

    async def lb(params: dict[str, Any]) -> AsyncIterator[Any]:
        what = str(params.get("view", "slots"))
        if what not in VIEWS:
            raise NotFoundError(f"there is no view {what!r} of load balancing")
        rows = await asyncio.to_thread(getattr(KernelView(agent), what))
        for start in range(0, len(rows), CHUNK):
            yield rows[start : start + CHUNK]

    async def maglev(params: dict[str, Any]) -> Any:
        return await asyncio.to_thread(_maglev, agent)

    api.add("service.list", list_services)
    api.add("service.get", get_service)
    api.add_stream("bpf.lb", lb)
    api.add("bpf.maglev", maglev)


def _maglev(agent: Agent) -> list[dict[str, Any]]:
    """Shares of each table: set → backend → rows."""
    outer = agent.datapath.map(kernel.MAGLEV)
    found = []
    for key in list(outer.keys()):
        inner = outer.get_map(key)
        if inner is None:
            continue
        with inner:
            raw = inner.lookup(bytes(4)) or b""
        shares: dict[int, int] = {}
        for number in memoryview(raw).cast("I"):
            shares[number] = shares.get(number, 0) + 1
        rows = {str(n): count for n, count in sorted(shares.items())}
        found.append({"set": int.from_bytes(key, "little"), "rows": rows})
    return found
