"""Health checks of load balancers: ``healthCheckNodePort`` says how many backends are on this node.

Source: Kubernetes, "Preserving the client source IP", and KEP-1669: 200 with a local backend that
is ready, 503 without.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from axoneme.core.errors import AxonemeError
from axoneme.core.http import Answer, Handler, HttpServer
from axoneme.core.model.balancing import ServiceName
from axoneme.core.place_options import split_address

log = logging.getLogger(__name__)


class HealthServers:
    """One server for each port that is wanted."""

    def __init__(self) -> None:
        self.counts: dict[ServiceName, int] = {}
        """Backends of this node that are ready."""
        self.errors: dict[int, str] = {}
        self._servers: dict[int, tuple[ServiceName, HttpServer]] = {}
        self._lock = asyncio.Lock()

    async def listen(self, address: str, problem: Callable[[], str]) -> None:
        """Answer as kube-proxy does on its health port: 200 while services are served."""
        if not address:
            return

        async def healthz(headers: dict[str, str]) -> Answer:
            now = datetime.now(UTC).isoformat()
            text = problem()
            body = {"lastUpdated": now, "currentTime": now, "problem": text}
            raw = json.dumps(body).encode() + b"\n"
            return Answer(raw, 503 if text else 200, "application/json")

        host, port = split_address(address)
        try:
            await HttpServer(host, port, {"/healthz": healthz, "/livez": healthz}).start()
        except AxonemeError as error:
            self.errors[-1] = f"kube-proxy-replacement-healthz-bind-address: {error}"

    async def keep(self, wanted: Mapping[int, ServiceName]) -> None:
        """Start and stop servers: port → service."""
        async with self._lock:
            for port, (name, server) in list(self._servers.items()):
                if wanted.get(port) != name:
                    await server.stop()
                    del self._servers[port]
            self.errors = {p: e for p, e in self.errors.items() if p in wanted or p < 0}
            for port, name in wanted.items():
                if port not in self._servers:
                    await self._start(port, name)

    async def _start(self, port: int, name: ServiceName) -> None:
        handler = self._handler(name)
        server = HttpServer("", port, {"/": handler, "/healthz": handler})
        try:
            await server.start()
        except (AxonemeError, OSError) as error:
            self.errors[port] = f"health check port {port} of {'/'.join(name)}: {error}"
            return
        self.errors.pop(port, None)
        self._servers[port] = (name, server)

    def _handler(self, name: ServiceName) -> Handler:
        async def answer(headers: dict[str, str]) -> Answer:
            count = self.counts.get(name, 0)
            body = {
                "service": {"namespace": name[0], "name": name[1]},
                "localEndpoints": count,
            }
            text = json.dumps(body).encode() + b"\n"
            return Answer(text, 200 if count else 503, "application/json")

        return answer
