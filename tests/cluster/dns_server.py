"""A small DNS server for tests: UDP and TCP, both families, names from the command line.

    python dns_server.py ADDRESS [ADDRESS …] -- NAME=ADDRESS[,ADDRESS …] …

A name that begins with ``alias.`` is a CNAME of the rest. Unknown names do not exist.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


def answer(wire: bytes, names: dict[str, list[str]]) -> bytes:
    """The answer to a query."""
    query = dns.message.from_wire(wire)
    response = dns.message.make_response(query, recursion_available=True)
    response.flags |= dns.flags.AA
    asked = query.question[0]
    name = asked.name.to_text().lower().rstrip(".")
    if name.startswith("alias."):
        target = name.removeprefix("alias.")
        response.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "CNAME", target + "."))
        name = target
    if name not in names:
        response.set_rcode(dns.rcode.NXDOMAIN)
    for kind in ("A", "AAAA"):
        found = [a for a in names.get(name, ()) if (":" in a) == (kind == "AAAA")]
        if found and asked.rdtype in (dns.rdatatype.from_text(kind), dns.rdatatype.ANY):
            response.answer.append(dns.rrset.from_text(name + ".", 60, "IN", kind, *found))
    out: bytes = response.to_wire()
    return out


class Datagrams(asyncio.DatagramProtocol):
    """UDP."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        self.names = names

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(answer(data, self.names), addr)


async def main(addresses: list[str], names: dict[str, list[str]]) -> None:
    """Serve until killed."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = struct.unpack("!H", await reader.readexactly(2))[0]
                wire = answer(await reader.readexactly(size), names)
                writer.write(struct.pack("!H", len(wire)) + wire)
        except asyncio.IncompleteReadError:
            writer.close()

    loop = asyncio.get_running_loop()
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:  # the other one has a socket of its own
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        datagrams.bind((address, 53))
        await loop.create_datagram_endpoint(lambda: Datagrams(names), sock=datagrams)
        await asyncio.start_server(talk, address, 53)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    split = sys.argv.index("--")
    listed = [text.partition("=") for text in sys.argv[split + 1 :]]
    asyncio.run(main(sys.argv[1:split], {n: a.split(",") for n, _, a in listed}))
