"""The life of endpoints on this node: ADD, DEL, CHECK, GC, restore, change of labels.

Requests about one attachment run one after the other; different ones run beside each other. An
ADD that fails at any step undoes what it did, in reverse. Nothing of a new endpoint passes a
packet before its policy is in the kernel: the pod's end of the link stays down until then, and
the programs drop what has no policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from pathlib import Path

from axoneme.core.endpoints.links import host_name
from axoneme.core.endpoints.making import EndpointMaker
from axoneme.core.endpoints.parts import EndpointParts
from axoneme.core.endpoints.refresh import EndpointUpdater
from axoneme.core.endpoints.removing import EndpointRemover
from axoneme.core.endpoints.request import EndpointRequest
from axoneme.core.endpoints.restore import EndpointRestorer
from axoneme.core.errors import ConflictError, ExhaustedError, NotReadyError, PendingError
from axoneme.core.locks import KeyedLocks
from axoneme.core.model.endpoint import Endpoint, EndpointState

log = logging.getLogger(__name__)

ADDRESS_SECONDS: float = 5.0
"""How long an ADD waits for addresses that were asked for."""


class EndpointManager:
    """Owns table ``endpoints``. On the loop's thread; blocking work goes to an executor."""

    def __init__(self, parts: EndpointParts) -> None:
        self.parts = parts
        self.table = parts.table
        self.accepting = False
        """Set once the agent is ready; until then requests are to be tried again."""
        self.last_add_ms: list[float] = []
        self.adding = 0
        """ADDs under way; what can wait lets them pass."""
        self.after_add: Callable[[int], None] = lambda number: None
        """Called with the id after each ADD: labels may have changed while it was under way."""
        self._parts = parts
        self._locks = KeyedLocks()
        self._maker = EndpointMaker(parts)
        self._remover = EndpointRemover(parts)
        self._restorer = EndpointRestorer(parts)
        self._updater = EndpointUpdater(parts, self._locks)
        self.restore = self._restorer.restore
        self.finish_restore = self._restorer.finish
        self.refresh = self._updater.refresh
        self.drain = self._remover.drain

    async def stop(self) -> None:
        """Finish removals, for a moment, and end the threads."""
        await self._remover.stop()
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._parts.executor.shutdown(wait=False, cancel_futures=True)

    # What the CNI server asks

    async def add(self, request: EndpointRequest) -> Endpoint:
        """Make an endpoint, or hand out the one that this very request made before.

        Returns when packets flow under the identity's policy. Raises and leaves nothing behind
        otherwise; errors that may go away are :class:`RetryableError`.
        """
        request.check()
        self._check_ready()
        self.adding += 1
        try:
            endpoint = await self._add(request)
        finally:
            self.adding -= 1
        self.after_add(endpoint.id)
        return endpoint

    async def _add(self, request: EndpointRequest) -> Endpoint:
        started = time.monotonic()
        # Two sandboxes of one pod wait for each other, too.
        async with (
            self._locks.hold(("pod", request.owner)),
            self._locks.hold(request.attachment_id),
        ):
            await self._remover.wait(request.attachment_id)
            present = self.by_attachment(request.attachment_id)
            if present is not None:
                return await self._repeat(present, request)
            await self._make_room(request)
            endpoint = await self._make(request)
        spent = (time.monotonic() - started) * 1000
        self.last_add_ms = [*self.last_add_ms[-999:], spent]
        log.info(
            "endpoint ready",
            extra={
                "endpoint": endpoint.id,
                "pod": endpoint.name,
                "identity": endpoint.identity,
                "milliseconds": round(spent, 1),
            },
        )
        self._parts.hooks.changed(endpoint)
        return endpoint

    async def remove(self, attachment_id: str) -> bool:
        """Remove an endpoint. Idempotent: false when there was none.

        Returns when it is cut off: no packet from it or to it passes any more.
        """
        async with self._locks.hold(attachment_id):
            endpoint = self.by_attachment(attachment_id)
            if endpoint is None:
                await self._remover.wait(attachment_id)
                return await self._parts.blocking(
                    self._parts.links.remove, host_name(attachment_id)
                )
            await self._remover.remove(endpoint)
            return True

    async def check(self, attachment_id: str) -> str:
        """What is wrong with an endpoint, its interface included; empty when all is well."""
        self._check_ready()
        endpoint = self.by_attachment(attachment_id)
        if endpoint is None:
            return f"no endpoint has the attachment {attachment_id}"
        if endpoint.state != EndpointState.READY:
            return f"endpoint {endpoint.name} is {endpoint.state}: {endpoint.message}"
        problem = await self._parts.blocking(self._parts.links.check, endpoint)
        return f"endpoint {endpoint.name}: {problem}" if problem else ""

    async def gc(self, valid: Collection[str]) -> list[str]:
        """Remove every endpoint whose attachment is not in ``valid``; returns the attachments."""
        self._check_ready()
        removed = []
        for endpoint in self._parts.table.rows():
            if endpoint.attachment_id not in valid and await self.remove(endpoint.attachment_id):
                removed.append(endpoint.attachment_id)
        return removed

    def by_attachment(self, attachment_id: str) -> Endpoint | None:
        """The endpoint of an attachment."""
        found = self._parts.table.find("attachment", attachment_id)
        return found[0] if found else None

    def by_pod(self, namespace: str, pod: str) -> Endpoint | None:
        """The endpoint of a pod."""
        found = self._parts.table.find("pod", (namespace, pod))
        return found[0] if found else None

    def note_links(self, before: Collection[Endpoint], present: Collection[int]) -> None:
        """Say of endpoints whose interface went away without a DEL that they have none.

        ``before`` are the endpoints from before the look at the links, ``present`` the links'
        indexes. The runtime's DEL clears the rest.
        """
        for old in before:
            endpoint = self.table.get(old.id)
            if endpoint is None or endpoint.ifindex != old.ifindex:
                continue
            if endpoint.state == EndpointState.READY and endpoint.ifindex not in present:
                message = f"link {endpoint.ifname} is gone"
                self._parts.note(endpoint.id, state=EndpointState.NOT_READY, message=message)
                log.warning("endpoint lost its link", extra={"endpoint": endpoint.id})

    # Before an ADD

    async def _make(self, request: EndpointRequest) -> Endpoint:
        try:
            return await self._try_to_make(request)
        except ExhaustedError:
            if not await self._remover.drain():  # what is on its way out still holds addresses
                raise
            return await self._try_to_make(request)
        except PendingError as error:
            return await self._wait_and_make(request, error)

    async def _wait_and_make(self, request: EndpointRequest, missing: PendingError) -> Endpoint:
        """Try again at each news of what is missing, for a while; the last word counts."""
        loop = asyncio.get_running_loop()
        end = loop.time() + ADDRESS_SECONDS
        await self._remover.drain()  # what is on its way out may do
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await missing.arrival()
            try:
                return await self._try_to_make(request)
            except PendingError as error:
                if loop.time() >= end:
                    raise
                missing = error

    async def _try_to_make(self, request: EndpointRequest) -> Endpoint:
        async with AsyncExitStack() as undo:
            endpoint = await self._maker.create(request, undo)
            undo.pop_all()
        return endpoint

    async def _make_room(self, request: EndpointRequest) -> None:
        """A pod has one endpoint: refuse a second sandbox while the first one lives."""
        if not request.pod:
            return
        other = self.by_pod(request.namespace, request.pod)
        if other is None or other.attachment_id.rpartition(":")[0] == request.container_id:
            return
        alive: bool = bool(other.netns) and await self._parts.blocking(Path(other.netns).exists)
        if alive:
            raise ConflictError(
                f"pod {request.owner} has endpoint {other.id} on this node already"
                f" (container {other.attachment_id.rpartition(':')[0][:12]})",
                hint="delete the other container first",
            )
        await self.remove(other.attachment_id)

    async def _repeat(self, present: Endpoint, request: EndpointRequest) -> Endpoint:
        """The same ADD again: fine if it is the same and all is in place."""
        if (present.netns, present.namespace, present.pod) != (
            request.netns,
            request.namespace,
            request.pod,
        ):
            raise ConflictError(
                f"attachment {request.attachment_id} belongs to endpoint {present.id}"
                f" of {present.name} already"
            )
        problem = await self._parts.blocking(self._parts.links.check, present)
        if problem or present.state != EndpointState.READY:
            await self._remover.remove(present)
            await self._remover.wait(present.attachment_id)
            return await self._make(request)
        return present

    # Helpers

    def _check_ready(self) -> None:
        if not self.accepting:
            raise NotReadyError("the agent is starting", hint="try again later")
