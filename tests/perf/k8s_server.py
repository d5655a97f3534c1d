"""A small server that speaks list and watch of the Kubernetes API, for objects that are made up.

A real API server with 150,000 pods does not fit beside what is measured. This one replays: pages of
a list are made when they are asked for, and ``POST /replay`` writes events, made beforehand, to the
open watches of a kind, one HTTP chunk an event as a real server does. ``python -m
tests.perf.k8s_server`` prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

from aiohttp import web

from tests.perf.k8s_objects import LISTED, MAKERS

BATCH: Final = 64
"""Events in one write to the socket: what a busy server's socket holds anyway."""
FULL: Final = 1 << 20


class Replay:
    """Who watches what, and events that are ready."""

    def __init__(self) -> None:
        self.watches: dict[str, list[web.Request]] = {}
        self.ready: dict[str, list[bytes]] = {}
        self.version = LISTED

    async def version_of_server(self, _: web.Request) -> web.Response:
        """``GET /version``."""
        said = {"major": "1", "minor": "34", "gitVersion": "v1.34.0-replay", "platform": "none"}
        return web.json_response(said)

    async def collection(self, request: web.Request) -> web.StreamResponse:
        """List, in pages, or watch."""
        plural = request.match_info["plural"]
        if plural not in MAKERS:
            return web.json_response({"code": 404, "message": "no such kind"}, status=404)
        if request.query.get("watch") == "1":
            return await self._watch(request, plural)
        maker, count = MAKERS[plural]
        first = int(request.query.get("continue") or 0)
        end = min(count, first + int(request.query.get("limit") or count))
        items = ",".join(maker(n, LISTED) for n in range(first, end))
        meta = {"resourceVersion": str(LISTED)} | ({"continue": str(end)} if end < count else {})
        text = f'{{"kind":"List","metadata":{json.dumps(meta)},"items":[{items}]}}'
        return web.Response(body=text.encode(), content_type="application/json")

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        there = self.watches.setdefault(plural, [])
        there.append(request)
        try:
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0.2)
        finally:
            there.remove(request)
        return answer

    async def prepare(self, request: web.Request) -> web.Response:
        """``POST /prepare?plural=&count=&type=``: make events; they wait."""
        plural, count = request.query["plural"], int(request.query["count"])
        kind, (maker, total) = request.query.get("type", "ADDED"), MAKERS[plural]
        chunks, batches = [], []
        size = 0
        for n in range(count):
            self.version += 1
            body = maker(n % total if total else n, self.version)
            line = f'{{"type":"{kind}","object":{body}}}\n'.encode()
            size += len(line)
            chunks.append(b"%x\r\n%b\r\n" % (len(line), line))
            if len(chunks) == BATCH or n == count - 1:
                batches.append(b"".join(chunks))
                chunks = []
        self.ready[plural] = batches
        return web.json_response({"bytes_each": size / count})

    async def replay(self, request: web.Request) -> web.Response:
        """``POST /replay?plural=``: write them, as fast as they are read."""
        plural = request.query["plural"]
        while not self.watches.get(plural):
            await asyncio.sleep(0.01)
        for batch in self.ready.pop(plural):
            for watch in list(self.watches[plural]):
                transport = watch.transport
                while transport is not None and transport.get_write_buffer_size() > FULL:
                    await asyncio.sleep(0.001)
                if transport is not None:
                    transport.write(batch)
        return web.json_response({})


async def serve() -> None:
    """On loopback until the starter closes our input."""
    replay = Replay()
    app = web.Application()
    app.router.add_get("/version", replay.version_of_server)
    app.router.add_post("/prepare", replay.prepare)
    app.router.add_post("/replay", replay.replay)
    app.router.add_get("/api/v1/{plural}", replay.collection)
    app.router.add_get("/apis/{group}/{version}/{plural}", replay.collection)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())
