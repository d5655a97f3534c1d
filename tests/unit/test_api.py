"""The local API over a real unix socket: answers, errors, streams, bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.api import client
from axoneme.core.api.protocol import MAX_LINE
from axoneme.core.api.server import ApiRouter, ApiServer
from axoneme.core.errors import (
    ApiError,
    AxonemeError,
    FatalError,
    NotFoundError,
    NotReadyError,
)


def serve(path: Path, router: ApiRouter, work: Callable[[], Any]) -> Any:
    """Run ``work`` in a thread while the router is served on ``path``."""

    async def main() -> Any:
        server = ApiServer(router, path)
        await server.start()
        try:
            return await asyncio.to_thread(work)
        finally:
            await server.stop()

    return asyncio.run(main())


@pytest.fixture
def router() -> ApiRouter:
    """An echo, several failures, two streams."""
    router = ApiRouter()

    async def echo(params: dict[str, Any]) -> Any:
        return params

    async def missing(params: dict[str, Any]) -> Any:
        raise NotFoundError("no endpoint 7", hint="see endpoint list")

    async def broken(params: dict[str, Any]) -> Any:
        raise ZeroDivisionError("secret detail")

    async def count(params: dict[str, Any]) -> AsyncIterator[Any]:
        for number in range(params["n"]):
            yield number

    router.add("test.echo", echo)
    router.add("test.missing", missing)
    router.add("test.broken", broken)
    router.add_stream("test.count", count)
    return router


def test_a_call_returns_the_result(tmp_path: Path, router: ApiRouter) -> None:
    """What the method returns is what the client gets, through JSON."""
    path = tmp_path / "s.sock"
    params = {"a": [1, None, "ü\x1b"]}
    assert serve(path, router, lambda: client.call(path, "test.echo", params)) == params
    assert not path.exists()


def test_errors_keep_type_message_and_hint(tmp_path: Path, router: ApiRouter) -> None:
    """An error of our tree arrives as itself; a foreign one as ``internal`` without its text."""
    path = tmp_path / "s.sock"

    def work() -> tuple[Exception, Exception, Exception]:
        found = []
        for method in ("test.missing", "test.broken", "test.ehco"):
            with pytest.raises(AxonemeError) as caught:
                client.call(path, method)
            found.append(caught.value)
        return found[0], found[1], found[2]

    missing, broken, unknown = serve(path, router, work)
    assert isinstance(missing, NotFoundError) and missing.hint == "see endpoint list"
    assert isinstance(broken, ApiError) and broken.code == "internal"
    assert "secret" not in str(broken)
    assert isinstance(unknown, ApiError) and unknown.hint == "did you mean test.echo?"


def test_a_stream_yields_events_then_ends(tmp_path: Path, router: ApiRouter) -> None:
    """A finished generator ends the client's loop."""
    path = tmp_path / "s.sock"
    assert serve(path, router, lambda: list(client.stream(path, "test.count", {"n": 3}))) == [
        0,
        1,
        2,
    ]


def test_hanging_up_ends_the_generator(tmp_path: Path) -> None:
    """A client that goes away while nothing happens frees the stream's resources at once."""
    path = tmp_path / "s.sock"
    closed = asyncio.Event()
    router = ApiRouter()

    async def silent(params: dict[str, Any]) -> AsyncIterator[Any]:
        try:
            yield "first"
            await asyncio.sleep(3600)
        finally:
            closed.set()

    router.add_stream("test.silent", silent)

    async def main() -> None:
        server = ApiServer(router, path)
        await server.start()

        def work() -> None:
            events = client.stream(path, "test.silent")
            assert next(events) == "first"
            events.close()  # type: ignore[attr-defined]

        await asyncio.to_thread(work)
        await asyncio.wait_for(closed.wait(), 5)
        await server.stop()

    asyncio.run(main())


def test_only_its_owner_can_open_the_socket(tmp_path: Path, router: ApiRouter) -> None:
    """The socket has mode 0600, whatever the umask is."""
    path = tmp_path / "s.sock"
    before = os.umask(0)
    try:
        mode = serve(path, router, lambda: stat.S_IMODE(path.stat().st_mode))
    finally:
        os.umask(before)
    assert mode == 0o600


@pytest.mark.root
def test_another_user_is_refused(tmp_path: Path, router: ApiRouter) -> None:
    """A peer that is neither root nor our own user is told so, even when the mode lets it in."""
    path = tmp_path / "s.sock"

    def work() -> tuple[int, str]:
        for folder in (path, path.parent, *path.parents[1:4]):
            with contextlib.suppress(PermissionError):
                folder.chmod(0o777)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setuid(65534)
                client.call(path, "test.echo")
                os.write(write, b"allowed")
            except AxonemeError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        return child, os.read(read, 1000).decode()

    assert "user 65534 may not use the agent" in serve(path, router, work)[1]


@pytest.mark.parametrize(
    "line",
    [b"not json\n", b"[]\n", b'{"method": 3}\n', b'{"method":"a.b","params":[1]}\n', b"\xff\n"],
)
def test_bad_requests_are_answered_and_the_connection_lives(
    tmp_path: Path, router: ApiRouter, line: bytes
) -> None:
    """A malformed line gets an error; the next good one on the same connection is served."""
    path = tmp_path / "s.sock"

    def work() -> list[Any]:
        with socket.socket(socket.AF_UNIX) as peer, contextlib.ExitStack() as stack:
            peer.connect(str(path))
            file = stack.enter_context(peer.makefile("rwb"))
            file.write(line + b'{"method":"test.echo","params":{"x":1}}\n')
            file.flush()
            return [json.loads(file.readline()), json.loads(file.readline())]

    first, second = serve(path, router, work)
    assert first["error"]["code"] == "bad-request"
    assert second == {"result": {"x": 1}}


def test_an_endless_request_is_refused(tmp_path: Path, router: ApiRouter) -> None:
    """More than 1 MiB without a newline gets one error and the end of the connection."""
    path = tmp_path / "s.sock"

    def work() -> None:
        client.call(path, "test.echo", {"x": "y" * (MAX_LINE + 10)})

    with pytest.raises(ApiError, match="longer than") as caught:
        serve(path, router, work)
    assert caught.value.code == "bad-request"


def test_a_second_server_refuses_and_a_stale_socket_is_replaced(
    tmp_path: Path, router: ApiRouter
) -> None:
    """A socket on which somebody answers is left alone; one left by a crash is taken over."""
    path = tmp_path / "s.sock"

    async def second() -> None:
        await ApiServer(router, path).start()

    def work() -> None:
        with pytest.raises(FatalError, match="another agent listens"):
            asyncio.run(second())

    serve(path, router, work)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert serve(path, router, lambda: client.call(path, "test.echo")) == {}


def test_without_an_agent_the_error_says_so(tmp_path: Path) -> None:
    """No socket means "no agent answers", with a hint."""
    with pytest.raises(NotReadyError, match="no agent answers at") as caught:
        client.call(tmp_path / "none.sock", "status.get")
    assert caught.value.hint


def test_names_are_unique_and_have_a_noun_and_a_verb(router: ApiRouter) -> None:
    """A second method of one name, or a name without a dot, is refused at registration."""

    async def method(params: dict[str, Any]) -> None: ...

    with pytest.raises(AxonemeError, match="exists already"):
        router.add("test.echo", method)
    with pytest.raises(AxonemeError, match="noun"):
        router.add("echo", method)


def test_connections_are_limited(
    tmp_path: Path, router: ApiRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection too many is told ``busy``; when another ends there is room again."""
    from axoneme.core.api import server

    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    path = tmp_path / "s.sock"

    def work() -> str:
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            first.sendall(b'{"method":"test.echo"}\n')
            assert first.recv(100)
            with pytest.raises(ApiError, match="too many connections") as caught:
                client.call(path, "test.echo")
        for _ in range(100):
            with contextlib.suppress(ApiError):
                client.call(path, "test.echo")
                return caught.value.code
        raise AssertionError("no room after the first connection ended")

    assert serve(path, router, work) == "busy"


def test_calls_of_several_connections_run_at_the_same_time(tmp_path: Path) -> None:
    """A slow call does not hold up another one's answer."""
    path = tmp_path / "s.sock"
    router = ApiRouter()
    release = asyncio.Event()

    async def wait(params: dict[str, Any]) -> str:
        await release.wait()
        return "waited"

    async def free(params: dict[str, Any]) -> str:
        release.set()
        return "freed"

    router.add("test.wait", wait)
    router.add("test.free", free)

    async def main() -> list[Any]:
        server = ApiServer(router, path)
        await server.start()
        slow = asyncio.create_task(asyncio.to_thread(client.call, path, "test.wait"))
        await asyncio.sleep(0.05)
        quick = await asyncio.to_thread(client.call, path, "test.free")
        found = [quick, await asyncio.wait_for(slow, 5)]
        await server.stop()
        return found

    assert asyncio.run(main()) == ["freed", "waited"]
