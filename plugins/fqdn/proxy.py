"""The DNS proxy: what pods ask is allowed or refused by name, and what they are told is learnt.

One process of its own, so that no message can hurt the agent (CVE-2025-23028). A query comes with
the address that the pod asked; the proxy asks that server itself, from the node's address, from a
port and under an id that nobody can guess, and answers as if it were the server.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from axoneme.core.model.l7 import L7Row
from axoneme.plugins.fqdn.kernel import Identities
from axoneme.plugins.fqdn.link import AgentLink
from axoneme.plugins.fqdn.messages import (
    BadMessageError,
    Question,
    answers_question,
    read_answers,
    read_query,
    refusal,
    with_id,
)
from axoneme.plugins.fqdn.rules import MAX_ROWS, RuleBook, from_plain
from axoneme.plugins.fqdn.sockets import (
    Address,
    Place,
    Replies,
    borrowing,
    marked,
    place,
    receive,
)

log = logging.getLogger(__name__)

UPSTREAM_SECONDS: Final = 5.0
DNS_PORT: Final = 53
IDLE_SECONDS: Final = 30.0
"""A client's TCP connection that says nothing is closed."""
MAX_IN_FLIGHT: Final = 8192
AT_ONCE: Final = 64
"""Datagrams taken from a socket in one turn of the loop."""
MAX_CONNECTIONS: Final = 2048
TCP: Final = 6
UDP: Final = 17


@frozen
class Settings:
    """What the agent's configuration says."""

    rcode: str = "refused"
    max_delay: float = 0.1
    concurrency: int = 0
    """Queries in flight; 0: as many as the proxy stands."""
    transparent: bool = False
    """Ask servers with the address of the pod that asks."""


class DnsProxy:
    """Serves the sockets it is given."""

    def __init__(self, port: int, link: AgentLink, identities: Identities) -> None:
        self.port = port
        self.link = link
        self.book = RuleBook()
        self.settings = Settings()
        self.counts: Counter[str] = Counter()
        self._identities = identities
        self._replies = Replies()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0

    def configure(self, message: dict[str, Any]) -> None:
        """Take rules and settings from the agent."""
        rows = message["rules"][:MAX_ROWS]
        book = RuleBook([_row(r) for r in rows])
        self.settings = Settings(
            str(message["rcode"]),
            float(message["max_delay"]),
            int(message["concurrency"]),
            bool(message.get("transparent", False)),
        )
        self.book = book
        self._identities.reopen()

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            if sock.type == socket.SOCK_DGRAM:
                loop.add_reader(sock.fileno(), self._readable, sock)
            else:
                await asyncio.start_server(self._connected, sock=sock)
        await asyncio.Event().wait()

    # UDP

    def _readable(self, sock: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                got = receive(sock)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                log.warning("datagram lost", extra={"error": str(error)})
                return
            if got is not None:
                self._spawn(*got)

    def _spawn(self, data: bytes, client: Place, server: Place) -> None:
        limit = self.settings.concurrency or MAX_IN_FLIGHT
        if len(self._tasks) >= limit:
            self.counts["overload"] += 1
            return
        task = asyncio.get_running_loop().create_task(self._datagram(data, client, server))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _datagram(self, data: bytes, client: Place, server: Place) -> None:
        try:
            answer = await self._answer(data, client, server, UDP)
            if answer is not None:
                self._replies.send(answer, server, client)
        except OSError as error:
            log.warning("answer not sent", extra={"client": str(client[0]), "error": str(error)})
        except Exception:  # one message never hurts the others
            self.counts["failed"] += 1
            log.exception("query failed", extra={"client": str(client[0])})

    # TCP

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = place(writer.get_extra_info("peername"))
        server = place(writer.get_extra_info("sockname"))
        self._connections += 1
        try:
            while self._connections <= MAX_CONNECTIONS:
                head = await asyncio.wait_for(reader.readexactly(2), IDLE_SECONDS)
                size = struct.unpack("!H", head)[0]
                data = await asyncio.wait_for(reader.readexactly(size), IDLE_SECONDS)
                answer = await self._answer(data, client, server, TCP)
                if answer is None:
                    return
                writer.write(struct.pack("!H", len(answer)) + answer)
                await asyncio.wait_for(writer.drain(), IDLE_SECONDS)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        except Exception:  # as above
            self.counts["failed"] += 1
            log.exception("connection failed", extra={"client": str(client[0])})
        finally:
            self._connections -= 1
            writer.close()

    # Either

    async def _answer(
        self, data: bytes, client: Place, server: Place, protocol: int
    ) -> bytes | None:
        """The answer for the client; ``None``: there is none."""
        self.counts["received"] += 1
        if server[1] == self.port:  # the proxy itself was asked, past the packet path
            self.counts["stray"] += 1
            return None
        try:
            question = read_query(data)
        except BadMessageError:
            self.counts["parse_errors"] += 1
            return None
        subject = self._identities.of_endpoint(client[0])
        peer = self._identities.of(server[0])
        if not subject or not self.book.allows(subject, peer, protocol, server[1], question.name):
            self.counts["denied"] += 1
            log.info(
                "query refused",
                extra={"client": str(client[0]), "name": question.name, "server": str(server[0])},
            )
            return refusal(question, self.settings.rcode)
        answer = await self._ask(data, question, client, server, protocol)
        if answer is None:
            self.counts["timeouts"] += 1
            return None
        self.counts["forwarded"] += 1
        await self._learn(answer, question, client)
        return with_id(answer, question.id)

    async def _learn(self, answer: bytes, question: Question, client: Place) -> None:
        try:
            found = read_answers(answer, question)
        except BadMessageError:
            self.counts["parse_errors"] += 1
            return
        if found.addresses:
            answers = [(str(a), ttl) for a, ttl in found.addresses]
            delay = self.settings.max_delay
            if not await self.link.learned(str(client[0]), found.name, answers, delay):
                self.counts["late"] += 1

    async def _ask(
        self, data: bytes, question: Question, client: Place, server: Place, protocol: int
    ) -> bytes | None:
        number = secrets.randbelow(1 << 16)
        wire = with_id(data, number)
        # Answers from this port alone find their way back: see ``ingress_proxy``.
        borrow = self.settings.transparent and server[1] == DNS_PORT
        try:
            async with asyncio.timeout(UPSTREAM_SECONDS):
                sock = _upstream(client[0], server[0], protocol, borrow=borrow)
                if protocol == TCP:
                    return await _ask_stream(sock, wire, number, question, server)
                return await _ask_datagram(sock, wire, number, question, server)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return None


def _upstream(client: Address, server: Address, protocol: int, *, borrow: bool) -> socket.socket:
    """A socket to ask a server with: with the client's address, or with the node's."""
    kind = socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM
    if borrow:
        try:
            return borrowing(client, kind)
        except OSError as error:
            log.info("address not borrowed", extra={"client": str(client), "error": str(error)})
    return marked(socket.AF_INET if server.version == 4 else socket.AF_INET6, kind)


async def _ask_datagram(
    sock: socket.socket, wire: bytes, number: int, question: Question, server: Place
) -> bytes:
    loop = asyncio.get_running_loop()
    with sock:
        await loop.sock_connect(sock, (str(server[0]), server[1]))
        await loop.sock_sendall(sock, wire)
        while True:  # others' datagrams are not ours, and wait for the real one goes on
            answer = await loop.sock_recv(sock, 65535)
            if answers_question(answer, number, question):
                return answer


async def _ask_stream(
    sock: socket.socket, wire: bytes, number: int, question: Question, server: Place
) -> bytes:
    try:
        await asyncio.get_running_loop().sock_connect(sock, (str(server[0]), server[1]))
        reader, writer = await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(struct.pack("!H", len(wire)) + wire)
        await writer.drain()
        while True:
            size = struct.unpack("!H", await reader.readexactly(2))[0]
            answer = await reader.readexactly(size)
            if answers_question(answer, number, question):
                return answer
    finally:
        writer.close()


def _row(plain: Any) -> L7Row:
    return from_plain(plain)


async def run(
    sockets: Sequence[socket.socket],
    folder: Path,
    pins: Path,
    offsets: dict[str, int],
    version: str,
) -> None:
    """The worker's life."""
    port = sockets[0].getsockname()[1]
    proxy: DnsProxy | None = None

    def take(message: dict[str, Any]) -> None:
        assert proxy is not None
        proxy.configure(message)

    link = AgentLink(folder / "dns-proxy.sock", folder / "dns-rules.json", take)
    proxy = DnsProxy(port, link, Identities(pins, offsets))
    link.restore()
    await link.serve({"port": port, "release": version})
    await proxy.serve(sockets)
