"""The local API's server: a router of methods, and a unix socket that only root can use.

Requests are bounded in size and number, calls of one connection run one after the other, and a
failing method answers an error; nothing a client sends ends the agent (CVE-2022-29178: the socket
is mode 0600 from its first moment, and the peer's user id is checked besides).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from axoneme.core.api.protocol import MAX_LINE, encode, error_message
from axoneme.core.errors import ApiError, AxonemeError, FatalError
from axoneme.core.text import clean, nearest

log = logging.getLogger(__name__)

Method = Callable[[dict[str, Any]], Awaitable[Any]]
StreamMethod = Callable[[dict[str, Any]], AsyncIterator[Any]]

MAX_CONNECTIONS: Final = 256
MAX_CALLS: Final = 128
IDLE_SECONDS: Final = 60.0
"""How long a connection may stay silent between two calls."""
SEND_SECONDS: Final = 30.0
"""How long a client may leave what is sent to it unread."""

CLOSE_SECONDS: Final = 1.0
"""How long the last answer may take to be read once the connection ends."""

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid: unix(7)


class ApiRouter:
    """Methods by name. Names are ``<noun>.<verb>``; a name that is taken is an error."""

    def __init__(self) -> None:
        self._methods: dict[str, Method] = {}
        self._streams: dict[str, StreamMethod] = {}

    def add(self, name: str, method: Method) -> None:
        """Add a method: an async function from params to what JSON can hold."""
        self._check(name)
        self._methods[name] = method

    def add_stream(self, name: str, method: StreamMethod) -> None:
        """Add a streaming method: an async generator function of events."""
        self._check(name)
        self._streams[name] = method

    def _check(self, name: str) -> None:
        noun, dot, verb = name.partition(".")
        if not (noun and dot and verb):
            raise AxonemeError(f"API method {name!r} is not <noun>.<verb>")
        if name in self._methods or name in self._streams:
            raise AxonemeError(f"API method {name} exists already")

    def names(self) -> list[str]:
        """Every method and stream, sorted."""
        return sorted([*self._methods, *self._streams])

    def method(self, name: str) -> Method | None:
        """The method of that name, if it is not a stream."""
        return self._methods.get(name)

    def stream(self, name: str) -> StreamMethod | None:
        """The streaming method of that name."""
        return self._streams.get(name)


class ApiServer:
    """Serves a router on a socket: ``await start()``, ``await stop()``."""

    def __init__(self, router: ApiRouter, path: Path) -> None:
        self.router = router
        self.path = path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._calls = asyncio.Semaphore(MAX_CALLS)

    async def start(self) -> None:
        """Listen; a socket on which somebody still answers is an error."""
        listener = open_listener(self.path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE)
        log.info("API listens", extra={"socket": str(self.path)})

    async def stop(self) -> None:
        """Stop listening, end every connection, remove the socket."""
        if self._server is None:
            return
        server, self._server = self._server, None
        # Accept no more, but close only when what was just accepted has its task: a server that is
        # closed between the two leaves the connection to nobody.
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(20):
            await asyncio.sleep(0)
        server.close()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            refusal = self._refusal(writer)
            if refusal is not None:
                await _send(writer, error_message(refusal))
                return
            while await self._one_call(reader, writer):
                pass
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client went away, or does not read
        except asyncio.CancelledError:
            pass  # stop() ends us; asyncio would log it as an error
        finally:
            await _close(writer)
            self._tasks.discard(task)

    def _refusal(self, writer: asyncio.StreamWriter) -> ApiError | None:
        peer = writer.get_extra_info("socket")
        _, uid, _ = _UCRED.unpack(
            peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        if uid not in (0, os.geteuid()):
            return ApiError(f"user {uid} may not use the agent", code="forbidden")
        if len(self._tasks) > MAX_CONNECTIONS:
            return ApiError("too many connections to the agent", code="busy")
        return None

    async def _one_call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one line; ``False`` ends the connection."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            error = ApiError(f"a request is longer than {MAX_LINE} bytes", code="bad-request")
            await _send(writer, error_message(error))
            return False
        try:
            name, params = _parse(line)
            stream = self.router.stream(name)
            if stream is not None:
                await self._pump(stream(params), reader, writer)
                return False
            method = self.router.method(name)
            if method is None:
                raise _unknown(name, self.router)
            if self._calls.locked():
                raise ApiError("the agent serves too many calls", code="busy", hint="try again")
            async with self._calls:
                answer = encode({"result": await method(params)})
        except AxonemeError as error:
            answer = encode(error_message(error))
        except Exception as error:
            log.exception("API call failed", extra={"method": clean(line[:80].decode("latin-1"))})
            answer = encode(error_message(error))
        await _send(writer, answer)
        return True

    async def _pump(
        self,
        events: AsyncIterator[Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Send events until they end or the client hangs up, which frees the generator at once."""
        gone = asyncio.ensure_future(reader.read(1))
        try:
            while True:
                following = asyncio.ensure_future(anext(events, _END))
                await asyncio.wait({gone, following}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    return
                event = await following
                await _send(writer, {"result": None} if event is _END else {"event": event})
                if event is _END:
                    return
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()


_END: Final = object()


async def _send(writer: asyncio.StreamWriter, message: Any) -> None:
    writer.write(message if isinstance(message, bytes) else encode(message))
    async with asyncio.timeout(SEND_SECONDS):
        await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close and see it through, so that the loop can end; a peer that does not read is cut off."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await writer.wait_closed()
    except (TimeoutError, OSError, asyncio.CancelledError):
        writer.transport.abort()


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise ApiError("the request is not JSON", code="bad-request") from None
    if not isinstance(request, dict):
        raise ApiError("the request is not an object", code="bad-request")
    name, params = request.get("method"), request.get("params") or {}
    if not isinstance(name, str) or not isinstance(params, dict):
        raise ApiError("the request wants a method and params", code="bad-request")
    return name, params


def _unknown(name: str, router: ApiRouter) -> ApiError:
    noun, _, verb = name[:80].partition(".")
    verbs = [known.partition(".")[2] for known in router.names() if known.startswith(f"{noun}.")]
    near = nearest(verb, verbs)
    return ApiError(
        f"no method {clean(name[:80])!r}",
        code="unknown-method",
        hint=f"did you mean {noun}.{near}?"
        if near
        else "is its plugin on? see axoneme plugin list",
    )


def open_listener(path: Path) -> socket.socket:
    """A listening unix socket of mode 0600; replaces one that nobody serves any more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() or path.is_symlink():
        _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Linux gives the file the mode of the socket's own inode: there is no moment at which it
        # is open to others, unlike with a chmod after bind, and no process-wide umask is touched.
        os.fchmod(listener.fileno(), stat.S_IRUSR | stat.S_IWUSR)
        listener.bind(str(path))
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        hint = "socket paths are limited to 107 bytes" if len(str(path)) > 107 else ""
        raise FatalError(f"cannot listen on {path}: {error}", hint=hint) from error
    return listener


def _remove_stale(path: Path) -> None:
    if not path.is_symlink() and not stat.S_ISSOCK(path.stat().st_mode):
        raise FatalError(f"{path} is in the way: not a socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1.0)
    try:
        probe.connect(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FatalError(f"cannot tell whether {path} is in use: {error}") from error
    else:
        raise FatalError(f"another agent listens on {path}", hint="one agent per node")
    finally:
        probe.close()
