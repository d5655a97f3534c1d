"""Load from one pod to another, run inside the client's namespace; prints what was lost or leaked.

    load.py IPV4 IPV6 TCP UDP DENIED_TCP DENIED_UDP CONNECTIONS

Until its standard input is closed: long-lived TCP connections that each ask every 50 ms, a UDP
stream with numbered packets in both families, and attempts that policy denies. Nothing may break,
nothing may be lost, nothing denied may be answered. Standard library only.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from typing import Any

SLOWEST = 10.0
REQUEST = b"GET /load HTTP/1.1\r\nHost: load\r\n\r\n"


class Load:
    """Counters of one run."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.requests = 0
        self.slowest = 0.0
        self.broken: list[str] = []
        self.sent = 0
        self.echoed: set[tuple[int, int]] = set()
        self.attempts = 0
        self.leaks: list[str] = []

    async def connection(self, number: int, address: str, port: int) -> None:
        """One connection for the whole run."""
        try:
            reader, writer = await asyncio.open_connection(address, port)
            while not self.stop.is_set():
                began = time.monotonic()
                writer.write(REQUEST)
                async with asyncio.timeout(SLOWEST):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                self.requests += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                await asyncio.sleep(0.05)
            writer.close()
        except (OSError, EOFError, TimeoutError, IndexError, asyncio.IncompleteReadError) as error:
            self.broken.append(f"connection {number} to {address}: {error!r}")

    async def stream(self, address: str, port: int) -> None:
        """Numbered packets, 100 a second."""
        family = 6 if ":" in address else 4
        transport, _ = await datagrams(address, port, self._echo(family))
        number = 0
        while not self.stop.is_set():
            transport.sendto(number.to_bytes(4, "big"))
            number += 1
            self.sent += 1
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)  # for the answers that are under way
        transport.close()

    def _echo(self, family: int) -> Any:
        return lambda data: self.echoed.add((family, int.from_bytes(data, "big")))

    async def denied_udp(self, address: str, port: int) -> None:
        """Packets that nobody may see."""
        transport, _ = await datagrams(
            address, port, lambda data: self.leaks.append(f"UDP to {address} was answered")
        )
        while not self.stop.is_set():
            transport.sendto(b"leak")
            self.attempts += 1
            await asyncio.sleep(0.02)
        transport.close()

    async def denied_tcp(self, address: str, port: int) -> None:
        """Connections that must not come about."""
        while not self.stop.is_set():
            self.attempts += 1
            try:
                async with asyncio.timeout(0.3):
                    _, writer = await asyncio.open_connection(address, port)
                self.leaks.append(f"TCP to {address} was accepted")
                writer.close()
            except (OSError, TimeoutError):
                pass


class Receiver(asyncio.DatagramProtocol):
    """Hands each datagram to a function."""

    def __init__(self, heard: Any) -> None:
        self.heard = heard

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """One packet."""
        self.heard(data)


async def datagrams(address: str, port: int, heard: Any) -> Any:
    """A connected UDP socket with room for a burst."""
    loop = asyncio.get_running_loop()
    made = await loop.create_datagram_endpoint(lambda: Receiver(heard), remote_addr=(address, port))
    made[0].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    return made


async def main(arguments: list[str]) -> None:
    """Run until standard input ends."""
    addresses = arguments[:2]
    tcp, udp, denied_tcp, denied_udp, connections = map(int, arguments[2:])
    load = Load()
    work = [load.connection(i, addresses[i % 2], tcp) for i in range(connections)]
    for address in addresses:
        work += [load.stream(address, udp), load.denied_udp(address, denied_udp)]
        work += [load.denied_tcp(address, denied_tcp)]
    tasks = asyncio.gather(*work)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    load.stop.set()
    await tasks
    result = {
        "connections": connections,
        "broken": load.broken[:5],
        "requests": load.requests,
        "slowest_ms": round(load.slowest * 1000),
        "sent": load.sent,
        "lost": load.sent - len(load.echoed),
        "attempts": load.attempts,
        "leaks": load.leaks[:5],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
