"""Removing endpoints: cut off at once, taken down behind.

The programs drop whatever a device sends or gets that ``axo_ep_by_if`` does not know. So a DEL is
done when the endpoint's rows have left the kernel's maps and its state file is gone: nothing can
reach it, nothing can come from it, and a successor of this agent sweeps its link as one that
nobody owns. Taking the link down costs the kernel 20 ms, for one as for a hundred; that happens
in batches, and only then addresses, identity and id are let go (CVE-2025-32793).
"""

from __future__ import annotations

import asyncio
import logging

from attrs import evolve

from axoneme.core.endpoints.parts import EndpointParts, holder_of
from axoneme.core.errors import AxonemeError, DatapathError
from axoneme.core.model.endpoint import AddressPair, Endpoint, EndpointState
from axoneme.core.reconcile.reconciler import backoff

log = logging.getLogger(__name__)

PATIENCE: float = 20.0
"""Seconds that a DEL waits for a link when the maps could not be changed."""


class EndpointRemover:
    """``remove`` is called under the attachment's lock; ``wait`` before it is used again."""

    def __init__(self, parts: EndpointParts) -> None:
        self._parts = parts
        self._doomed: dict[str, asyncio.Future[None]] = {}
        """By attachment: done when nothing is left."""
        self._queue: list[Endpoint] = []
        self._task: asyncio.Task[None] | None = None

    async def remove(self, endpoint: Endpoint) -> None:
        """Cut an endpoint off; the rest follows. Where the maps fail, wait for the link to go."""
        endpoint = self._parts.note(endpoint.id, state=EndpointState.DISCONNECTING)
        cut, _ = await asyncio.gather(
            self._parts.realizer.cut(endpoint),
            self._parts.blocking(self._parts.files.delete, endpoint.id),
        )
        self._parts.table.delete(endpoint.id)
        future = asyncio.get_running_loop().create_future()
        self._doomed[endpoint.attachment_id] = future
        self._queue.append(endpoint)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._take_down())
        if not cut:
            await self._patiently(endpoint)

    async def wait(self, attachment_id: str) -> None:
        """Wait until nothing is left of an attachment that was removed."""
        future = self._doomed.get(attachment_id)
        if future is not None:
            await asyncio.shield(future)

    async def drain(self) -> bool:
        """Wait until nothing is left of all that were removed so far; false if nothing was."""
        futures = list(self._doomed.values())
        if futures:
            await asyncio.wait(futures)
        return bool(futures)

    async def stop(self, seconds: float = 1.0) -> None:
        """Finish what can be; what cannot, a successor sweeps."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _patiently(self, endpoint: Endpoint) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self.wait(endpoint.attachment_id)
        except TimeoutError:
            raise DatapathError(f"endpoint {endpoint.name}: neither cut off nor removed") from None

    async def _take_down(self) -> None:
        failures = 0
        while self._queue:
            batch, self._queue = self._queue, []
            try:
                names = [endpoint.ifname for endpoint in batch]
                await self._parts.blocking(self._parts.links.remove_all, names)
            except AxonemeError as error:
                failures += 1
                log.warning("links not removed", extra={"links": names, "error": str(error)})
                self._queue += batch
                await asyncio.sleep(backoff(failures))
                continue
            failures = 0
            for endpoint in batch:
                try:
                    self._let_go(endpoint)
                except Exception:
                    log.exception("endpoint not let go", extra={"endpoint": endpoint.id})

    def _let_go(self, endpoint: Endpoint) -> None:
        """No packet can come any more: what belonged to it may be somebody else's."""
        parts = self._parts
        try:
            parts.realizer.erase(endpoint)
            if endpoint.id not in parts.given:
                parts.hooks.release(AddressPair(endpoint.ipv4, endpoint.ipv6), holder_of(endpoint))
            parts.given.discard(endpoint.id)
            parts.identities.release(endpoint.identity)
            parts.ids.release(endpoint.id)
            log.info("endpoint removed", extra={"endpoint": endpoint.id, "pod": endpoint.name})
            parts.hooks.removed(evolve(endpoint, state=EndpointState.DISCONNECTED))
        finally:
            future = self._doomed.pop(endpoint.attachment_id)
            if not future.done():
                future.set_result(None)
