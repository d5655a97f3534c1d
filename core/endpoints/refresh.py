"""Changes of a living endpoint: labels, named ports, identity."""

from __future__ import annotations

import asyncio
import logging

from axoneme.core.endpoints.parts import EndpointParts
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
        know it before the first packet carries it; then the endpoint switches in one step. A DEL
        need not wait for that: the endpoint is looked at again afterwards.
        """
        endpoint = self._parts.table.get(number)
        if endpoint is None or endpoint.state == EndpointState.DISCONNECTING:
            return
        attachment = endpoint.attachment_id
        identities = self._parts.identities
        ahead: tuple[LabelSet, int] | None = None
        try:
            while True:
                async with self._locks.hold(attachment):
                    endpoint = self._parts.table.get(number)
                    if endpoint is None or endpoint.attachment_id != attachment:
                        return
                    endpoint = await self._take_ports(endpoint)
                    labels = self._parts.pods.labels(endpoint) or endpoint.labels
                    kept = identities.stands_for(endpoint.identity, endpoint.labels)
                    if kept and labels == endpoint.labels:
                        return
                    if ahead and ahead[0] == labels and identities.stands_for(ahead[1], labels):
                        taken, ahead = ahead, None
                        await self._switch(endpoint, *taken)
                        return
                if ahead is not None:  # the labels have changed once more
                    identities.release(ahead[1])
                    ahead = None
                identity = await identities.allocate(labels)
                ahead = (labels, identity)
                await self._parts.realizer.policy(identity)
                if kept and identity != endpoint.identity:
                    await asyncio.sleep(grace)
        finally:
            if ahead is not None:
                identities.release(ahead[1])

    async def _take_ports(self, endpoint: Endpoint) -> Endpoint:
        pod = self._parts.pods.pod(endpoint)
        if pod is not None and pod.named_ports != endpoint.named_ports:
            endpoint = self._parts.note(endpoint.id, named_ports=pod.named_ports)
            await self._parts.save(endpoint)
        return endpoint

    async def _switch(self, endpoint: Endpoint, labels: LabelSet, identity: int) -> None:
        """From one identity to the other; a failure goes back to what was in force.

        The one that is not in force in the end is released.
        """
        try:
            changed = self._parts.note(endpoint.id, labels=labels, identity=identity)
            self._parts.realizer.write(changed)
            revision = await self._parts.realizer.settle(changed)
        except BaseException:
            self._parts.identities.release(identity)
            if self._parts.table.get(endpoint.id) is not None:
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
