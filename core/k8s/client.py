"""Requests to the API server: limits, repetition, another server, errors in our own words.

What the server has surely not done is asked again: an answer 429 or 503, a connection that was not
made. Other failures of the way are repeated for verbs that may be said twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgspec

from axoneme.core.errors import (
    AxonemeError,
    ConflictError,
    InvalidObjectError,
    NotFoundError,
    StoreError,
)
from axoneme.core.k8s.access import Access
from axoneme.core.k8s.limits import TokenBucket
from axoneme.core.k8s.reach import Reach

log = logging.getLogger(__name__)

ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 30.0
REQUEST_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
"""Who has not taken a connection by then is away."""
IDEMPOTENT: Final = frozenset({"GET", "PUT", "DELETE"})
BUFFER: Final = 1 << 18
"""Bytes of a stream that wait to be read, at least."""
JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"


class GoneError(StoreError):
    """The version is too old: list again."""


class AwayError(StoreError):
    """No server answers, or none that can do its work now: it will be back."""


def pause(attempt: int) -> float:
    """Seconds before the next try: doubled each time, and by chance between half and all of it."""
    longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
    return longest * random.uniform(0.5, 1.0)


class ApiClient:
    """One process's connections."""

    def __init__(
        self, access: Access, limit: TokenBucket | None = None, reach: Reach | None = None
    ) -> None:
        self.access = access
        self.reach = reach or Reach()
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """Requests so far, by server, verb and answer (``error``: none came)."""
        self._limit = limit
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                trust_env=True,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                read_bufsize=BUFFER,
            )
        return self._session

    async def call(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = JSON,
    ) -> dict[str, Any]:
        """One request; ``what`` names its object in errors."""
        text = await self.ask(method, path, what, query=query, body=body, content=content)
        return _body(text, what)

    async def text(self, path: str, what: str, query: Mapping[str, str] | None = None) -> str:
        """What is there and is no object: a pod's log."""
        return _text(await self.ask("GET", path, what, query=query))

    async def ask(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = JSON,
    ) -> bytes:
        """One request; the answer's body as it came."""
        data = None if body is None else json.dumps(body).encode()
        for attempt in range(ATTEMPTS):
            if self._limit is not None:
                await self._limit.take()
            try:
                status, text, wait = await self._once(method, path, query, data, content)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                await self._unreachable(method, error, attempt)
                continue
            if status < 500:
                self.reach.heard()
            if status in (429, 503) or (status >= 500 and method in IDEMPOTENT):
                if attempt + 1 == ATTEMPTS:
                    raise AwayError(f"{what}: the API server says {status} {_words(_text(text))}")
                await asyncio.sleep(wait or pause(attempt))
                continue
            if status >= 400:
                raise _error(status, _text(text), what)
            return text
        raise AwayError(self.reach.problem or f"{what}: no answer")

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        content: str,
    ) -> tuple[int, bytes, float]:
        headers = await self.access.headers()
        if data is not None:
            headers["Content-Type"] = content
        server = self.access.server
        self.counts[server, method, "error"] += 1  # until one comes
        async with self._open().request(
            method,
            server + path,
            params=query,
            data=data,
            headers=headers,
            ssl=self.access.context(),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
        ) as answer:
            wait = answer.headers.get("Retry-After", "")
            self.counts[server, method, "error"] -= 1
            self.counts[server, method, str(answer.status)] += 1
            return answer.status, await answer.read(), float(wait) if wait.isdigit() else 0.0

    async def _unreachable(self, method: str, error: Exception, attempt: int) -> None:
        """Another server, a pause; or the end."""
        problem = _unreached(self.access.server, error)
        self.reach.lost(problem)
        self.access.next_server()
        safe = method in IDEMPOTENT or isinstance(error, aiohttp.ClientConnectorError)
        if not safe or attempt + 1 == ATTEMPTS:
            raise AwayError(problem) from error
        await asyncio.sleep(pause(attempt))

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], silence: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of an answer that goes on; ``silence``: seconds without a byte that end it."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        try:
            async with self._open().get(
                self.access.server + path,
                params=query,
                headers=await self.access.headers(),
                ssl=self.access.context(),
                timeout=timeout,
            ) as answer:
                self.counts[self.access.server, "WATCH", str(answer.status)] += 1
                if answer.status >= 400:
                    wait = answer.headers.get("Retry-After", "")
                    if wait.isdigit():
                        await asyncio.sleep(min(LONGEST_PAUSE, float(wait)))
                    raise _error(answer.status, await answer.text(), path)
                self.reach.heard()
                yield answer.content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = _unreached(self.access.server, error)
            self.reach.lost(problem)
            self.access.next_server()
            raise AwayError(problem) from error


def _text(body: bytes) -> str:
    return body.decode(errors="replace")


def _body(text: bytes, what: str) -> dict[str, Any]:
    """What a server says that is none, a proxy's page for example, is an error of the way."""
    try:
        found = msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError as error:
        raise StoreError(
            f"{what}: the API server's answer is no JSON: {_text(text[:80])!r}"
        ) from error
    if not isinstance(found, dict):
        raise StoreError(f"{what}: the API server's answer is no object: {_text(text[:80])!r}")
    return found


def _unreached(server: str, error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):  # whose text shows objects of Python
        error = error.os_error
    number = getattr(error, "errno", None) or 0
    plain = number > 0 and not isinstance(error, ssl.SSLError)  # whose numbers are its own
    words = os.strerror(number) if plain else str(error) or type(error).__name__
    return f"{server} cannot be reached: {words}"


def _words(text: str) -> str:
    try:
        return str(json.loads(text).get("message", text))[:300]
    except (ValueError, AttributeError):
        return text[:300]


def _error(status: int, text: str, what: str) -> AxonemeError:
    """The server's Status (metav1.Status) as ours."""
    try:
        said = json.loads(text)
    except ValueError:
        said = {}
    if not isinstance(said, dict):
        said = {}
    message = str(said.get("message") or text)[:500]
    causes = (said.get("details") or {}).get("causes") or [{}]
    if status == 404:
        if not (said.get("details") or {}).get("name"):  # not the object, its kind
            return NotFoundError(f"{what}: the API server has no such kind, its CRD is missing")
        return NotFoundError(f"{what} not found")
    if status == 409:
        if said.get("reason") == "AlreadyExists":
            return ConflictError(f"{what} exists already")
        return ConflictError(f"{what} has changed: {message}")
    if status == 410:
        return GoneError(f"{what}: {message}")
    if status in (400, 422):
        field = str(causes[0].get("field") or "")
        return InvalidObjectError(what, field, str(causes[0].get("message") or message))
    if status in (401, 403):
        return StoreError(f"{what}: the API server refuses: {message}", hint="see the ClusterRole")
    return StoreError(f"{what}: the API server says {status}: {message}")
