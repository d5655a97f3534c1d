"""Changes of a living endpoint: labels, named ports, identity."""

from __future__ import annotations

import asyncio
import logging

from axoneme.core.endpoints.parts import EndpointParts
from axoneme.core.errors import NotFoundError
from axoneme.core.locks import KeyedLocks
from axoneme.core.model.endpoint import Endpoint, EndpointState
from axoneme.core.model.labels import LabelSet

log = logging.getLogger(__name__)


class EndpointUpdater:
    """``locks`` are those of the manager: a change never overlaps an ADD or a DEL."""

    def __init__(self, parts: EndpointParts, locks: KeyedLocks) -> None:
        self._parts = parts
        self._locks = locks

    async def refresh(self, number: int, grace: float) -> None:
        """Bring an endpoint's labels, named ports and identity up to date.

        A new identity is allocated first and spreads for ``grace`` seconds, so that peers' policies
        know it before the first packet carries it; then the endpoint switches in one step.
        """
        endpoint = self._parts.table.get(number)
        if endpoint is None or endpoint.state == EndpointState.DISCONNECTING:
            return
        async with self._locks.hold(endpoint.attachment_id):
            endpoint = self._parts.table.get(number)
            if endpoint is None:
                return
            pod = self._parts.pods.pod(endpoint)
            if pod is not None and pod.named_ports != endpoint.named_ports:
                endpoint = self._parts.note(number, named_ports=pod.named_ports)
                await self._parts.save(endpoint)
            labels = self._parts.pods.labels(endpoint)
            if labels is None or labels == endpoint.labels:
                return
            await self._change_identity(endpoint, labels, grace)

    async def _change_identity(self, endpoint: Endpoint, labels: LabelSet, grace: float) -> None:
        identity = await self._parts.identities.allocate(labels)
        try:
            await self._parts.realizer.policy(identity)
            if identity != endpoint.identity and grace > 0:
                await asyncio.sleep(grace)
            if self._parts.table.get(endpoint.id) is None:
                raise NotFoundError(f"endpoint {endpoint.name} went away")
            changed = self._parts.note(endpoint.id, labels=labels, identity=identity)
            self._parts.realizer.write(changed)
            revision = await self._parts.realizer.settle(changed)
        except BaseException:
            self._parts.identities.release(identity)
            present = self._parts.table.get(endpoint.id)
            if present is not None:  # go on with what was in force
                self._parts.realizer.write(
                    self._parts.note(
                        endpoint.id, labels=endpoint.labels, identity=endpoint.identity
                    )
                )
            raise
        changed = self._parts.note(endpoint.id, policy_revision=revision)
        self._parts.identities.release(endpoint.identity)
        await self._parts.save(changed)
        log.info(
            "identity changed",
            extra={"endpoint": endpoint.id, "old": endpoint.identity, "new": identity},
        )
        self._parts.hooks.changed(changed)
