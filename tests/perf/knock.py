"""Knock at ports at a steady beat, and tell which knocks were answered. Runs inside a pod.

``knock.py serve PORT...`` accepts and closes. ``knock.py knock ADDRESS PORT...`` begins a TCP
connect every half millisecond, whatever became of those before, until its input ends, and prints
JSON: ``[[begin, port, answered], ...]``, times in ns of the monotonic clock, which all processes
share. What is not answered within 150 ms is refused: long before the kernel would send a SYN again
(1 s).
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time

BEAT = 500_000
PATIENCE = 150_000_000
LINGER = struct.pack("ii", 1, 0)


class Knocker:
    """One beat after the other; ``found`` collects what became of each knock."""

    def __init__(self, address: str, ports: list[int]) -> None:
        self.address, self.ports = address, ports
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.poll = select.epoll()
        self.open: dict[int, tuple[socket.socket, int, int]] = {}
        self.found: list[tuple[int, int, bool]] = []

    def knock(self, port: int) -> None:
        """Begin one connect."""
        one = socket.socket(self.family, socket.SOCK_STREAM)
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        begin = time.monotonic_ns()
        one.connect_ex((self.address, port))
        self.open[one.fileno()] = (one, begin, port)
        self.poll.register(one, select.EPOLLOUT)

    def settle(self, number: int, *, answered: bool) -> None:
        """One knock is decided."""
        one, begin, port = self.open.pop(number)
        self.found.append((begin, port, answered))
        one.close()

    def turn(self, until: int) -> None:
        """See to what happens until a time; give up on the oldest knocks."""
        wait = max(0, until - time.monotonic_ns()) / 1e9
        for number, _ in self.poll.poll(wait):
            error = self.open[number][0].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.settle(number, answered=error == 0)
        old = time.monotonic_ns() - PATIENCE
        while self.open and (first := next(iter(self.open))) and self.open[first][1] < old:
            self.settle(first, answered=False)

    def run(self) -> None:
        """Until the input ends; knocks under way are waited for."""
        number, due = 0, time.monotonic_ns()
        while not select.select([sys.stdin], [], [], 0)[0]:
            self.knock(self.ports[number % len(self.ports)])
            number += 1
            due = max(due + BEAT, time.monotonic_ns() - BEAT)
            while time.monotonic_ns() < due:
                self.turn(due)
        while self.open:
            self.turn(time.monotonic_ns() + PATIENCE)


def serve(ports: list[int]) -> None:
    """Accept on all ports, both families, for ever."""
    poll, servers = select.poll(), {}
    for port in ports:
        server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        server.listen(4096)
        servers[server.fileno()] = server
        poll.register(server, select.POLLIN)
    print("ready", flush=True)
    while True:
        for number, _ in poll.poll():
            servers[number].accept()[0].close()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(list(map(int, sys.argv[2:])))
    knocker = Knocker(sys.argv[2], list(map(int, sys.argv[3:])))
    print("ready", flush=True)
    knocker.run()
    json.dump(sorted(knocker.found), sys.stdout)
