"""Running a command in a pod, by the API server's ``exec`` (WebSocket, ``v5.channel.k8s.io``).

Each message begins with the number of its channel: 1 standard output, 2 standard error, 3 the
outcome as a ``Status`` object (Kubernetes API reference, pods/exec).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

import aiohttp
from attrs import frozen

from axoneme.core.errors import StoreError
from axoneme.core.k8s.access import Access

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
OUT, ERR, OUTCOME = 1, 2, 3


@frozen
class Finished:
    """What a command said, and its exit code."""

    out: str
    err: str
    code: int


async def execute(
    access: Access, namespace: str, pod: str, command: Sequence[str], *, container: str = "",
    timeout: float = 60.0,
) -> Finished:  # fmt: skip
    """Run it and wait for its end; :class:`StoreError` if it could not be started."""
    query = [("command", word) for word in command]
    query += [("stdout", "1"), ("stderr", "1")]
    if container:
        query.append(("container", container))
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec?{urlencode(query)}"
    said = {OUT: bytearray(), ERR: bytearray(), OUTCOME: bytearray()}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(timeout)) as session,
            session.ws_connect(
                access.server + path,
                protocols=PROTOCOLS,
                headers=await access.headers(),
                ssl=access.context(),
                max_msg_size=0,
            ) as socket,
        ):
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY and message.data:
                    channel = message.data[0]
                    if channel in said:
                        said[channel] += message.data[1:]
    except aiohttp.WSServerHandshakeError as error:
        raise StoreError(f"exec in {namespace}/{pod}: {error.status} {error.message}") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise StoreError(f"exec in {namespace}/{pod}: {error or 'timed out'}") from error
    return Finished(
        said[OUT].decode(errors="replace"),
        said[ERR].decode(errors="replace"),
        _code(bytes(said[OUTCOME]), f"{namespace}/{pod}"),
    )


def _code(outcome: bytes, where: str) -> int:
    body = json.loads(outcome or b"{}")
    if body.get("status") == "Success":
        return 0
    for cause in (body.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise StoreError(f"exec in {where}: {body.get('message') or 'the connection ended'}")
