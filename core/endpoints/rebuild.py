"""Endpoints whose state file cannot be read: their pods live, so their links must not go.

The link's alias names the attachment, the CiliumEndpoint object of that attachment tells the rest;
hardware addresses follow from the attachment. Only the path of the network namespace is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from axoneme.core.endpoints.files import SavedEndpoint
from axoneme.core.endpoints.links import derived_mac, host_name
from axoneme.core.endpoints.parts import EndpointParts
from axoneme.core.errors import AxonemeError
from axoneme.core.ipcache.remote import decode_cluster_endpoint
from axoneme.core.model.endpoint import Endpoint, EndpointState
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ClusterObject

log = logging.getLogger(__name__)

Restore = Callable[[SavedEndpoint], Awaitable[None]]


class EndpointRebuilder:
    """Runs after the endpoints whose files are good are back."""

    def __init__(self, parts: EndpointParts) -> None:
        self._parts = parts

    async def rebuild(self, restore: Restore) -> set[str]:
        """Bring back what can be; returns the links that must stay although nobody owns them."""
        parts = self._parts
        refused: dict[Path, str] = await parts.blocking(parts.files.refused)
        if not refused:
            return set()
        links: dict[str, str] = await parts.blocking(parts.links.attachments)
        # A file that does not say which link it is about may be about any.
        about = links.keys() if "" in refused.values() else links.keys() & set(refused.values())
        lost = set(about) - {e.ifname for e in parts.table.rows()}
        if lost:
            for saved in await self._remembered({links[name] for name in lost}):
                try:
                    await restore(saved)
                    await parts.save(parts.get(saved.endpoint.id))
                except AxonemeError as error:
                    log.error(
                        "endpoint not rebuilt",
                        extra={"endpoint": saved.endpoint.name, "error": str(error)},
                    )
                    continue
                log.warning("endpoint rebuilt", extra={"endpoint": saved.endpoint.name})
                lost.discard(saved.endpoint.ifname)
        for name in sorted(lost):
            log.error("link without a state file kept", extra={"link": name})
        for path, name in refused.items():
            if name not in lost and (name or not lost):
                await parts.blocking(path.unlink, True)
        return lost

    async def _remembered(self, attachments: set[str]) -> list[SavedEndpoint]:
        """What the objects say of these attachments."""
        if self._parts.published is None:
            return []
        try:
            objects = await self._parts.published()
        except AxonemeError as error:
            log.error("endpoints not read", extra={"error": str(error)})
            return []
        found = []
        for obj in objects:
            names = obj.status.get("external-identifiers")
            attachment = names.get("cni-attachment-id") if isinstance(names, Mapping) else None
            if isinstance(attachment, str) and attachment in attachments:
                saved = from_object(obj, attachment, self._parts.node.mtu())
                if saved is not None:
                    found.append(saved)
        return found


def from_object(obj: ClusterObject, attachment: str, mtu: int) -> SavedEndpoint | None:
    """An endpoint out of its object; ``None`` if that does not tell enough."""
    status: Mapping[str, Any] = obj.status
    try:
        row = decode_cluster_endpoint(obj)
        labels = LabelSet.parse(status["identity"]["labels"])
        number = int(status["id"])
    except (AxonemeError, KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("object tells too little", extra={"object": str(obj.key), "error": str(error)})
        return None
    if row is None:
        return None
    endpoint = Endpoint(
        id=number,
        attachment_id=attachment,
        namespace=obj.key.namespace,
        pod=obj.key.name,
        ipv4=row.ipv4,
        ipv6=row.ipv6,
        ifname=host_name(attachment),
        ifindex=0,
        container_ifname=attachment.rpartition(":")[2],
        netns="",
        mac=derived_mac(f"{attachment} pod"),
        host_mac=derived_mac(f"{attachment} host"),
        mtu=mtu,
        labels=labels,
        identity=row.identity,
        named_ports=row.named_ports,
        state=EndpointState.RESTORING,
    )
    return SavedEndpoint(endpoint)
