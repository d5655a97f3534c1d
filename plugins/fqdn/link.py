"""The proxy's end of its link to the agent: a unix socket of JSON lines, root only.

The agent tells what the proxy is to obey (``config``), the proxy what names were answered
(``learned``); the agent says when the addresses are programmed (``done``). While no agent is there
the proxy goes on with what it was told last, which it keeps in a file, and queues what it learns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

VERSION: Final = 1
MAX_LINE: Final = 64 * 1024 * 1024
QUEUE: Final = 10_000
"""Answers that wait for an agent; the oldest are forgotten first."""
KNOWN: Final = 200_000


class AgentLink:
    """Serves one agent at a time; a new one takes the place of the old one."""

    def __init__(self, path: Path, kept: Path, take: Callable[[dict[str, Any]], object]) -> None:
        """``kept``: where the last configuration stands; ``take`` gets each one."""
        self._path, self._kept, self._take = path, kept, take
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._queue: deque[dict[str, Any]] = deque(maxlen=QUEUE)
        self._known: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._next = 0

    def restore(self) -> None:
        """Take the configuration that a predecessor was given."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            self._take(json.loads(self._kept.read_text()))

    async def serve(self, hello: dict[str, Any]) -> None:
        """Listen for agents."""
        self._path.unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            await asyncio.start_unix_server(
                lambda r, w: self._talk(r, w, hello), str(self._path), limit=MAX_LINE
            )
        finally:
            os.umask(old)

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: dict[str, Any]
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = writer
        self._send({"type": "hello", "version": VERSION, **hello})
        while self._queue:
            self._send(self._queue.popleft())
        try:
            while line := await reader.readline():
                self._hear(json.loads(line))
        except (ValueError, OSError, asyncio.IncompleteReadError) as error:
            log.warning("agent's line lost", extra={"error": str(error)})
        finally:
            writer.close()
            if self._writer is writer:
                self._writer = None
                self._release_all()

    def _hear(self, message: dict[str, Any]) -> None:
        if message.get("type") == "done":
            waiting = self._waiting.pop(int(message["id"]), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        elif message.get("type") == "config":
            self._take(message)
            part = self._kept.with_suffix(".new")
            part.write_text(json.dumps(message))
            part.replace(self._kept)

    async def learned(
        self, client: str, name: str, answers: list[tuple[str, int]], patience: float
    ) -> bool:
        """Tell of an answer; wait until its addresses are programmed, at most ``patience``
        seconds. False when that was not confirmed in time."""
        fresh = [a for a, _ in answers if (client, name, a) not in self._known]
        self._next += 1
        message = {"type": "learned", "id": self._next, "client": client, "name": name,
                   "answers": answers}  # fmt: skip
        if self._writer is None:
            self._queue.append(message)
            if not fresh:
                return True
            await asyncio.sleep(patience)
            return False
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[self._next] = waiting
        number = self._next
        self._send(message)
        waiting.add_done_callback(lambda f: self._note(f, client, name, fresh))
        if not fresh:
            return True
        try:
            await asyncio.wait_for(asyncio.shield(waiting), patience)
            return True
        except TimeoutError:
            return False
        finally:
            if len(self._waiting) > QUEUE:
                self._waiting.pop(number, None)

    def _note(
        self, future: asyncio.Future[None], client: str, name: str, addresses: list[str]
    ) -> None:
        if future.cancelled():
            return
        for address in addresses:
            self._known[client, name, address] = None
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def forget_known(self) -> None:
        """What was programmed may not be any more."""
        self._known.clear()

    def _release_all(self) -> None:
        while self._waiting:
            _, waiting = self._waiting.popitem()
            waiting.cancel()

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._writer.write(json.dumps(message).encode() + b"\n")
