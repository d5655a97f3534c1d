"""CiliumEndpoints into CiliumEndpointSlices: fewer objects for agents to follow.

Slices hold endpoints of one namespace. An endpoint stays in its slice as long as both live; a new
one fills the fullest slice with room. What this process wrote is known at once, so what a watch
says about it later, and late, is left aside.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError
from axoneme.core.ipcache.slices import API_VERSION, KIND, entries_of, namespace_of
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import Changes, Table
from axoneme.core.store.reflector import Reflector

if TYPE_CHECKING:
    from axoneme.core.operator.operator import Operator

log = logging.getLogger(__name__)

SOON: Final = 0.05
"""Seconds in which changes gather."""
RETRY_SECONDS: Final = 2.0

Name = tuple[str, str]


@frozen
class SliceEntry:
    """Row of table ``slice_endpoints``: what a slice says of an endpoint. Key: ``key``."""

    namespace: str
    name: str
    text: str
    """JSON."""

    @property
    def key(self) -> Name:
        """Namespace and name."""
        return self.namespace, self.name


@frozen
class SliceRow:
    """Row of table ``endpoint_slices``. Key: ``name``."""

    name: str
    namespace: str
    entries: tuple[tuple[str, str], ...]
    """Names and texts, sorted."""
    version: str = ""


def register(operator: Operator) -> None:
    """Add the task if slices are on."""
    if operator.config.flag("enable-cilium-endpoint-slice"):
        SliceWriter(operator)


def decode_entry(obj: ClusterObject) -> SliceEntry | None:
    """Read a CiliumEndpoint; ``None`` while it has no identity or no address."""
    status = obj.status
    identity, networking = status.get("identity"), status.get("networking")
    number = identity.get("id") if isinstance(identity, Mapping) else None
    if not number or not isinstance(networking, Mapping) or not networking.get("addressing"):
        return None
    metadata = obj.body.get("metadata")
    owners = metadata.get("ownerReferences") if isinstance(metadata, Mapping) else None
    uids = [o.get("uid") for o in owners or () if isinstance(o, Mapping) and o.get("kind") == "Pod"]
    entry: dict[str, Any] = {
        "name": obj.key.name,
        "id": number,
        "networking": {k: networking[k] for k in ("addressing", "node") if networking.get(k)},
        "named-ports": status.get("named-ports"),
        "encryption": status.get("encryption"),
        "service-account": status.get("service-account"),
        "pod-uid": uids[0] if uids else None,
    }
    text = json.dumps({k: v for k, v in entry.items() if v}, sort_keys=True)
    return SliceEntry(obj.key.namespace, obj.key.name, text)


def decode_row(obj: ClusterObject) -> SliceRow:
    """Read a slice."""
    entries = ((str(e["name"]), json.dumps(dict(e), sort_keys=True)) for e in entries_of(obj))
    return SliceRow(obj.key.name, namespace_of(obj), tuple(sorted(entries)), obj.resource_version)


def arrange(
    slices: Iterable[SliceRow], entries: Mapping[str, str], most: int
) -> dict[str, tuple[tuple[str, str], ...]]:
    """What the slices of one namespace should hold, by name; ``entries``: texts by endpoint.

    New slices have made-up names. A slice that should go holds nothing.
    """
    held: dict[str, dict[str, str]] = {}
    placed: set[str] = set()
    for one in sorted(slices, key=lambda s: s.name):
        names = [n for n in dict(one.entries) if n in entries and n not in placed][:most]
        placed.update(names)
        held[one.name] = {n: entries[n] for n in names}
    for name in sorted(entries.keys() - placed):
        room = [s for s, inside in held.items() if 0 < len(inside) < most]
        target = max(room, key=lambda s: (len(held[s]), s), default="")
        if not target:
            target = f"ces-{secrets.token_hex(5)}"
            held[target] = {}
        held[target][name] = entries[name]
    return {name: tuple(sorted(inside.items())) for name, inside in held.items()}


class SliceWriter:
    """Follows endpoints and slices, and writes slices namespace by namespace."""

    def __init__(self, operator: Operator) -> None:
        self._store = operator.store
        self._most = operator.config.number("ces-max-ciliumendpoints-per-ces")
        self.entries: Table[Name, SliceEntry] = operator.tables.create(
            "slice_endpoints",
            SliceEntry,
            key=lambda r: r.key,
            indexes={"namespace": lambda r: [r.namespace]},
        )
        self.slices: Table[str, SliceRow] = operator.tables.create(
            "endpoint_slices", SliceRow, key=lambda r: r.name
        )
        self._known: dict[str, SliceRow] = {}
        self._written: dict[str, list[str]] = {}
        """Versions that this process wrote and no watch has told of yet."""
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._synced = operator.metrics.counter(
            "operator_ces_sync_total", "Writes of CiliumEndpointSlices", ("outcome",)
        )
        self._sizes = operator.metrics.histogram(
            "operator_number_of_ceps_per_ces", "Endpoints in a written CiliumEndpointSlice",
            buckets=(1, 10, 25, 50, 100, 200, 500, 1000),
        )  # fmt: skip
        self.entries.subscribe(self._entries_changed)
        self.slices.subscribe(self._slices_changed)
        endpoints = Reflector(operator.store, "CiliumEndpoint", self.entries, decode_entry)
        slices = Reflector(operator.store, KIND, self.slices, decode_row)
        operator.tasks.spawn("reflect CiliumEndpoint for slices", endpoints.run)
        operator.tasks.spawn(f"reflect {KIND}", slices.run)
        operator.add_task("endpoint slices", self.run)

    async def run(self) -> None:
        """Run for ever; what could not be written is tried again."""
        await self.entries.initialized.wait()
        await self.slices.initialized.wait()
        self.entries.flush()
        self.slices.flush()
        self._written.clear()
        self._known = {row.name: row for row in self.slices.rows()}
        self._dirty |= {row.namespace for row in self._known.values()}
        self._dirty |= {row.namespace for row in self.entries.rows()}
        while True:
            await asyncio.sleep(SOON)
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            failed = {n for n in sorted(dirty) if not await self._settle(n)}
            self._dirty |= failed
            try:
                async with asyncio.timeout(RETRY_SECONDS if failed else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _settle(self, namespace: str) -> bool:
        """Write what is not right in a namespace; false when something is to be tried again."""
        mine = [row for row in self._known.values() if row.namespace == namespace]
        entries = {row.name: row.text for row in self.entries.find("namespace", namespace)}
        fine = True
        wanted = arrange(mine, entries, self._most)
        # What grows first: an endpoint that moves is never in none.
        for name in sorted(wanted, key=lambda n: (self._shrinks(n, wanted[n]), n)):
            try:
                await self._write(name, namespace, wanted[name])
            except AxonemeError as error:
                fine = False
                self._synced.labels(outcome="fail").inc()
                await self._again(name)
                if not isinstance(error, ConflictError):
                    log.warning("slice not written", extra={"slice": name, "error": str(error)})
        return fine

    async def _write(self, name: str, namespace: str, entries: tuple[tuple[str, str], ...]) -> None:
        present = self._known.get(name)
        if present is not None and present.entries == entries:
            return
        if not entries:
            if present is not None:
                await self._store.delete(ObjectKey(KIND, "", name), present.version)
                self._known.pop(name, None)
            return
        metadata = {"name": name} | ({"resourceVersion": present.version} if present else {})
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata,
            "namespace": namespace,
            "endpoints": [json.loads(text) for _, text in entries],
        }
        verb = self._store.update if present is not None else self._store.create
        made = await verb(body)
        self._known[name] = SliceRow(name, namespace, entries, made.resource_version)
        self._written.setdefault(name, []).append(made.resource_version)
        self._synced.labels(outcome="success").inc()
        self._sizes.observe(len(entries))

    def _shrinks(self, name: str, entries: tuple[tuple[str, str], ...]) -> bool:
        present = self._known.get(name)
        return present is not None and len(entries) < len(present.entries)

    async def _again(self, name: str) -> None:
        """Read a slice that is another one than was thought."""
        try:
            row = decode_row(await self._store.get(ObjectKey(KIND, "", name)))
        except NotFoundError:
            self._known.pop(name, None)
        except AxonemeError:
            return
        else:
            self._known[name] = row

    def _entries_changed(self, changes: Changes[Name, SliceEntry]) -> None:
        self._look_at({namespace for namespace, _ in (*changes.upserted, *changes.deleted)})

    def _slices_changed(self, changes: Changes[str, SliceRow]) -> None:
        for name, row in changes.upserted.items():
            versions = self._written.get(name, [])
            if row.version in versions:
                if row.version == versions[-1]:
                    del self._written[name]
                continue
            self._known[name] = row
            self._look_at({row.namespace})
        for name in changes.deleted:
            self._written.pop(name, None)
            gone = self._known.pop(name, None)
            if gone is not None:  # by somebody else
                self._look_at({gone.namespace})

    def _look_at(self, namespaces: set[str]) -> None:
        self._dirty |= namespaces
        if self._dirty:
            self._wake.set()
