"""The blocking client of the local API, for the CLI, the lab and tests.

``call(socket, "endpoint.list")`` for one answer, ``stream(socket, "monitor.events")`` for many.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from axoneme.core.api.protocol import encode, raise_error
from axoneme.core.errors import ApiError, NotReadyError


def call(
    path: Path | str,
    method: str,
    params: Mapping[str, Any] | None = None,
    timeout: float = 30.0,
) -> Any:
    """Call one method and return its result.

    :class:`NotReadyError` when no agent answers, the server's own error type when it refuses.
    ``timeout`` is in seconds, for each step of the exchange.
    """
    with _connect(path, timeout) as connection:
        _send(connection, path, {"method": method, "params": dict(params or {})})
        for message in _messages(connection, path):
            if "error" in message:
                raise_error(message["error"])
            if "event" in message:
                raise ApiError(f"{method} is a stream", code="bad-request")
            return message.get("result")
    raise NotReadyError(f"the agent at {path} hung up")


def stream(
    path: Path | str,
    method: str,
    params: Mapping[str, Any] | None = None,
    timeout: float | None = None,
) -> Iterator[Any]:
    """Yield the events of a streaming method until it ends or the caller stops.

    ``timeout`` bounds the silence between two events; ``None`` waits for ever.
    """
    with _connect(path, 10.0) as connection:
        _send(connection, path, {"method": method, "params": dict(params or {})})
        connection.settimeout(timeout)
        for message in _messages(connection, path):
            if "error" in message:
                raise_error(message["error"])
            if "event" not in message:
                return
            yield message["event"]
    raise NotReadyError(f"the agent at {path} went away")


def _connect(path: Path | str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        connection.close()
        raise NotReadyError(
            f"no agent answers at {path}", hint="is it running? see axoneme agent --help"
        ) from error
    except PermissionError as error:
        connection.close()
        raise ApiError(
            f"no permission to talk to {path}", code="forbidden", hint="run as root"
        ) from error
    except OSError as error:
        connection.close()
        raise ApiError(f"cannot connect to {path}: {error}", code="failed") from error
    return connection


def _send(connection: socket.socket, path: Path | str, message: Any) -> None:
    try:
        connection.sendall(encode(message))
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server refused early; its reason is there to be read
    except OSError as error:
        raise NotReadyError(f"the agent at {path} does not listen: {error}") from error


def _messages(connection: socket.socket, path: Path | str) -> Iterator[dict[str, Any]]:
    with connection.makefile("rb") as file:
        while True:
            try:
                line = file.readline()
            except TimeoutError as error:
                raise NotReadyError(f"the agent at {path} does not answer in time") from error
            except OSError as error:
                raise NotReadyError(f"the agent at {path} went away: {error}") from error
            if not line:
                return
            try:
                message = json.loads(line)
            except ValueError as error:
                raise ApiError(f"{path} does not speak our protocol", code="internal") from error
            if not isinstance(message, dict):
                raise ApiError(f"{path} does not speak our protocol", code="internal")
            yield message
