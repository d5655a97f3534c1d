"""A very small HTTP/1.1 server for what scrapers and probes ask: GET, one answer, close.

It runs on the agent's own loop, because metrics read tables, and tables live on that loop. A
request's head is bounded in bytes and time; everything but GET and HEAD is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from attrs import frozen

from axoneme.core.errors import FatalError

log = logging.getLogger(__name__)

MAX_HEAD: Final = 16384
"""Bytes of request line and headers."""
TIMEOUT: Final = 10.0
MAX_CONNECTIONS: Final = 32

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@frozen
class Answer:
    """What a handler returns."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


Handler = Callable[[dict[str, str]], Awaitable[Answer]]
"""Gets the request's headers, names in lower case."""


class HttpServer:
    """Paths and their handlers on one address."""

    def __init__(self, host: str, port: int, handlers: dict[str, Handler]) -> None:
        self.host = host
        self.port = port
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)

    async def start(self) -> None:
        """Listen; port 0 takes a free one and sets :attr:`port`."""
        try:
            self._server = await asyncio.start_server(
                self._serve, self.host or None, self.port, limit=MAX_HEAD
            )
        except OSError as error:
            where = f"{self.host or '*'}:{self.port}"
            raise FatalError(f"cannot listen on {where}: {error.strerror or error}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._slots, asyncio.timeout(TIMEOUT):
                method, answer = await self._answer(reader)
                head = (
                    f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
                    f"Content-Type: {answer.content_type}\r\n"
                    f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + (b"" if method == "HEAD" else answer.body))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[str, Answer]:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.LimitOverrunError:
            return "GET", Answer(b"request too large\n", 400)
        first, *rest = head.split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return "GET", Answer(b"bad request\n", 400)
        method, path = parts[0], parts[1].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return method, Answer(b"only GET\n", 405)
        handler = self._handlers.get(path)
        if handler is None:
            return method, Answer(b"not found\n", 404)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in rest if ":" in line)
        }
        try:
            return method, await handler(headers)
        except Exception:
            log.exception("HTTP handler failed", extra={"path": path})
            return method, Answer(b"internal error\n", 500)
