"""The agent's side of CNI: ``cni.add``, ``cni.del``, ``cni.check``, ``cni.status``, ``cni.gc``.

It decodes, asks the endpoint manager, and shapes the answer. That calls for one attachment run
one after the other is the manager's doing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from axoneme.core.cni import result
from axoneme.core.cni.errors import (
    BAD_CONFIG,
    FAILED,
    NOT_AVAILABLE,
    UNHEALTHY,
    CniError,
    translate,
)
from axoneme.core.cni.queue import DeleteQueue
from axoneme.core.cni.request import CniRequest, decode
from axoneme.core.endpoints.request import EndpointRequest
from axoneme.core.errors import AxonemeError, NotReadyError
from axoneme.core.model.endpoint import Endpoint

if TYPE_CHECKING:
    from axoneme.core.api.server import ApiRouter

log = logging.getLogger(__name__)

REPLAY_SECONDS: Final = 30.0

Address = IPv4Address | IPv6Address


class Endpoints(Protocol):
    """What CNI needs of the endpoint manager."""

    async def add(self, request: EndpointRequest) -> Endpoint:
        """Make an endpoint and wait until it is programmed."""
        ...

    async def remove(self, attachment_id: str) -> object:
        """Remove it; fine when there is none."""
        ...

    async def check(self, attachment_id: str) -> object:
        """Raise what is wrong with it."""
        ...

    async def gc(self, valid: Collection[str], /) -> object:
        """Remove every endpoint whose attachment is not named."""
        ...


class CniServer:
    """Serves the executable. ``ready`` says why not, or nothing; ``gateways`` are the router's."""

    def __init__(
        self,
        endpoints: Endpoints,
        gateways: Callable[[], Sequence[Address]],
        ready: Callable[[], str],
        state_dir: Path,
        *,
        route_mtu: Callable[[], int] = lambda: 0,
    ) -> None:
        self.endpoints = endpoints
        self.gateways = gateways
        self.ready = ready
        self.route_mtu = route_mtu
        self.queue = DeleteQueue(state_dir)

    def register(self, api: ApiRouter) -> None:
        """Add the methods to the local API."""
        for verb, method in (
            ("add", self.add),
            ("del", self.delete),
            ("check", self.check),
            ("status", self.status),
            ("gc", self.gc),
        ):
            api.add(f"cni.{verb}", self._guarded(verb, method))

    def _guarded(
        self, verb: str, method: Callable[[CniRequest], Awaitable[Any]]
    ) -> Callable[[dict[str, Any]], Awaitable[Any]]:
        async def call(params: Mapping[str, Any]) -> Any:
            try:
                request = decode(verb, params)
                why_not = self.ready()
                if why_not and verb != "status":
                    raise NotReadyError(f"the agent is not ready: {why_not}")
                return await method(request)
            except AxonemeError as error:
                refused = translate(error)
                # STATUS is asked again and again while an agent starts: no news for the log.
                log.log(
                    logging.DEBUG if verb == "status" else logging.WARNING,
                    "CNI request refused",
                    extra={"verb": verb, "code": refused.number, "error": refused.message},
                )
                raise refused from error

        return call

    async def add(self, request: CniRequest) -> dict[str, Any]:
        """Make the interface; the result in the version asked for."""
        endpoint = await self.endpoints.add(request.endpoint())
        return result.make(
            request.version, endpoint, self.gateways(), request.previous, self.route_mtu()
        )

    async def delete(self, request: CniRequest) -> None:
        """Remove the interface. Succeeds when there is none, or half of one."""
        await self.endpoints.remove(request.attachment_id)

    async def check(self, request: CniRequest) -> None:
        """Fail with what is wrong with the interface."""
        if request.previous is None:
            raise CniError(BAD_CONFIG, "CHECK needs prevResult")
        try:
            await self.endpoints.check(request.attachment_id)
        except AxonemeError as error:
            refused = translate(error)
            if refused.number == FAILED:
                raise CniError(UNHEALTHY, error.message, details=error.hint) from error
            raise refused from error

    async def status(self, _request: CniRequest) -> None:
        """Fail unless an ADD would be served now."""
        why_not = self.ready()
        if why_not:
            raise CniError(NOT_AVAILABLE, f"the agent is not ready: {why_not}")

    async def gc(self, request: CniRequest) -> None:
        """Remove what the runtime no longer knows."""
        if request.valid_attachments is None:
            raise CniError(BAD_CONFIG, "GC needs cni.dev/valid-attachments")
        await self.endpoints.gc(request.valid_attachments)

    async def replay(self) -> int:
        """Carry out deletions that came while nobody was here; how many."""
        count = 0
        for item in await asyncio.to_thread(self.queue.pending):
            try:
                await self.endpoints.remove(item.attachment_id)
            except AxonemeError as error:
                log.warning(
                    "queued deletion failed",
                    extra={"attachment": item.attachment_id, "error": str(error)},
                )
                continue
            self.queue.done(item)
            count += 1
        if count:
            log.info("queued deletions done", extra={"count": count})
        return count

    async def run(self) -> None:
        """Replay now and then; the task to spawn."""
        while True:
            await self.replay()
            await asyncio.sleep(REPLAY_SECONDS)
