"""CiliumEndpoints into CiliumEndpointSlices: fewer objects for agents to follow.

Slices hold endpoints of one namespace. An endpoint stays in its slice as long as both live; a new
one fills the fullest slice with room. Here are the rows and the arrangement, which is pure;
``slice_writer.py`` writes it, ``slice_removal.py`` takes it away.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from axoneme.core.ipcache.slices import entries_of, namespace_of
from axoneme.core.model.objects import ClusterObject

Name = tuple[str, str]
"""Namespace and name of an endpoint."""

Entries = tuple[tuple[str, str], ...]
"""Names and texts, sorted."""


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
    entries: Entries
    version: str = ""


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
) -> dict[str, Entries]:
    """What the slices of one namespace should hold, by name; ``entries``: texts by endpoint.

    New slices have made-up names. A slice that should go holds nothing.
    """
    held: dict[str, dict[str, str]] = {}
    placed: set[str] = set()
    for one in sorted(slices, key=lambda s: s.name):
        names = [n for n in dict(one.entries) if n in entries and n not in placed][:most]
        placed.update(names)
        held[one.name] = {n: entries[n] for n in names}
    room = sorted(
        (s for s, inside in held.items() if 0 < len(inside) < most),
        key=lambda s: (len(held[s]), s),
    )
    target = ""  # which is the fullest one until it is full
    for name in sorted(entries.keys() - placed):
        if not target or len(held[target]) == most:
            target = room.pop() if room else f"ces-{secrets.token_hex(5)}"
            held.setdefault(target, {})
        held[target][name] = entries[name]
    return {name: tuple(sorted(inside.items())) for name, inside in held.items()}
