"""Endpoints of the whole cluster in bulk: CiliumEndpointSlice objects, many endpoints in each.

The operator writes them out of CiliumEndpoints (reference 2.1, ``cilium.io/v2alpha1``); agents that
follow them hear of a hundred pods in one event. An endpoint that moves to another slice is in both
for a while: the one that spoke last counts, and the other one's end takes nothing away.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from axoneme.core.errors import InvalidObjectError
from axoneme.core.ipcache.remote import ClusterEndpoint, decode_node_address, decode_ports
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import Table
from axoneme.core.store.model import Store
from axoneme.core.store.reflector import Reflector

KIND: Final = "CiliumEndpointSlice"
API_VERSION: Final = "cilium.io/v2alpha1"
MAX_ENTRIES: Final = 10_000

Name = tuple[str, str]
"""Namespace and name of an endpoint."""


def entries_of(obj: ClusterObject) -> list[Mapping[str, Any]]:
    """The endpoints of a slice, as they are written; an error names the field."""
    found = obj.body.get("endpoints") or []
    if not isinstance(found, list | tuple) or len(found) > MAX_ENTRIES:
        raise InvalidObjectError(str(obj.key), "endpoints", f"must list up to {MAX_ENTRIES}")
    for index, entry in enumerate(found):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise InvalidObjectError(str(obj.key), f"endpoints[{index}]", "must have a name")
    return list(found)


def namespace_of(obj: ClusterObject) -> str:
    """The namespace of a slice's endpoints."""
    found = obj.body.get("namespace")
    if not isinstance(found, str) or not found:
        raise InvalidObjectError(str(obj.key), "namespace", f"must be a name, not {found!r}")
    return found


def decode_slice(obj: ClusterObject) -> tuple[ClusterEndpoint, ...]:
    """The endpoints of a slice that have an identity and an address."""
    namespace = namespace_of(obj)
    found = (
        _endpoint(str(obj.key), f"endpoints[{index}]", namespace, entry)
        for index, entry in enumerate(entries_of(obj))
    )
    return tuple(row for row in found if row is not None)


def _endpoint(
    where: str, field: str, namespace: str, entry: Mapping[str, Any]
) -> ClusterEndpoint | None:
    identity = entry.get("id")
    if not identity:
        return None
    if not isinstance(identity, int) or not 0 < identity < 1 << 24:
        raise InvalidObjectError(where, f"{field}.id", f"{identity!r} is not an identity")
    networking = entry.get("networking")
    networking = networking if isinstance(networking, Mapping) else {}
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    try:
        for pair in networking.get("addressing") or ():
            ipv4 = IPv4Address(pair["ipv4"]) if pair.get("ipv4") else ipv4
            ipv6 = IPv6Address(pair["ipv6"]) if pair.get("ipv6") else ipv6
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidObjectError(where, f"{field}.networking.addressing", str(error)) from None
    if ipv4 is None and ipv6 is None:
        return None
    return ClusterEndpoint(
        namespace,
        entry["name"],
        identity,
        ipv4,
        ipv6,
        decode_node_address(where, f"{field}.networking.node", networking.get("node")),
        decode_ports(where, f"{field}.named-ports", entry.get("named-ports")),
    )


class SliceReflector(Reflector[Any, Any]):
    """Follows slices into table ``cluster_endpoints``."""

    def __init__(self, store: Store, table: Table[Name, ClusterEndpoint]) -> None:
        super().__init__(store, KIND, table, decode_slice)
        self._slices: dict[ObjectKey, dict[Name, ClusterEndpoint]] = {}
        self._holders: dict[Name, list[ObjectKey]] = {}
        """Slices that an endpoint is in, the one that spoke last at the end."""

    def _place(self, key: ObjectKey, row: tuple[ClusterEndpoint, ...] | None) -> None:
        self._keys[key] = key
        self._set(key, {(e.namespace, e.name): e for e in row or ()})

    def _remove(self, key: ObjectKey) -> None:
        self.errors.pop(key, None)
        self._keys.pop(key, None)
        self._set(key, {})
        self._slices.pop(key, None)

    def _set(self, key: ObjectKey, rows: dict[Name, ClusterEndpoint]) -> None:
        old, self._slices[key] = self._slices.get(key, {}), rows
        with self.table.transaction():
            for name in old.keys() - rows.keys():
                self._leave(key, name)
            for name, row in rows.items():
                if old.get(name) == row:
                    continue  # another slice may have said something newer
                holders = self._holders.setdefault(name, [])
                if key in holders:
                    holders.remove(key)
                holders.append(key)
                self.table.upsert(row)

    def _leave(self, key: ObjectKey, name: Name) -> None:
        holders = self._holders[name]
        holders.remove(key)
        if holders:
            self.table.upsert(self._slices[holders[-1]][name])
        else:
            del self._holders[name]
            self.table.delete(name)
