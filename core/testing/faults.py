"""A proxy before a real API server that misbehaves on demand: faults that it cannot make itself."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from axoneme.core.lab.apiserver import TOKEN, ApiServer


class FaultProxy:
    """Counts requests, and answers some of them itself."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.counts: Counter[str] = Counter()
        """By ``list``, ``watch`` or the verb."""
        self.refuse: Callable[[web.Request], web.Response | None] = lambda _: None
        """An answer in place of the server's."""
        self.url = ""
        self._watches: set[asyncio.Task[None]] = set()
        self._session: ClientSession | None = None

    def cut_watches(self) -> None:
        """End all streams in the middle."""
        for task in self._watches:
            task.cancel()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FaultProxy]:
        """Serve on loopback."""
        context = ssl.create_default_context(cafile=str(self.server.folder / "ca.crt"))
        self._session = ClientSession(
            connector=TCPConnector(ssl=context), timeout=ClientTimeout(total=None)
        )
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.cut_watches()
            await runner.cleanup()
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") == "1"
        named = "watch" if watch else "list" if "limit" in request.query else request.method
        self.counts[named] += 1
        if (answer := self.refuse(request)) is not None:
            return answer
        assert self._session is not None
        headers = {"Authorization": f"Bearer {TOKEN}"}
        if "Content-Type" in request.headers:
            headers["Content-Type"] = request.headers["Content-Type"]
        async with self._session.request(
            request.method, self.server.url + str(request.rel_url), headers=headers,
            data=await request.read() or None,
        ) as upstream:  # fmt: skip
            if not watch:
                return web.Response(
                    status=upstream.status,
                    body=await upstream.read(),
                    content_type=upstream.content_type,
                )
            response = web.StreamResponse(status=upstream.status)
            await response.prepare(request)
            pump = asyncio.create_task(self._pump(upstream.content.iter_any(), response))
            self._watches.add(pump)
            try:
                await asyncio.wait([pump])
                if pump.cancelled() and request.transport is not None:
                    request.transport.abort()
            finally:
                pump.cancel()
                self._watches.discard(pump)
            return response

    @staticmethod
    async def _pump(chunks: AsyncIterator[bytes], response: web.StreamResponse) -> None:
        async for chunk in chunks:
            await response.write(chunk)
