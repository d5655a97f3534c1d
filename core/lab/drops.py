"""Watching the drop events of all nodes while probes run, to say why a probe was denied."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Self

from attrs import frozen

from axoneme.core.api.protocol import encode
from axoneme.core.lab.model import Lab

CONNECT_SECONDS: Final = 2.0
PROTOCOL_NAMES: Final = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
_METHOD: Final = "monitor.events"


@frozen
class Drop:
    """One dropped packet as a node's agent reported it."""

    node: str
    reason: str
    proto: str
    source: str
    destination: str
    sport: int
    dport: int
    event: dict[str, Any]
    """The whole event, identities and names included, for those who print it."""

    def signatures(self) -> Iterator[tuple[str, str, str, int]]:
        """What probe it may belong to: as the attempt's packet, or as the answer to it."""
        if self.proto == "icmp":
            # An echo has no ports to tell a request from somebody else's answer.
            summary = str(self.event.get("summary", ""))
            if not summary.endswith("echo-reply"):
                yield (self.proto, self.source, self.destination, 0)
            if not summary.endswith("echo-request"):
                yield (self.proto, self.destination, self.source, 0)
        else:
            yield (self.proto, self.source, self.destination, self.dport)
            yield (self.proto, self.destination, self.source, self.sport)


class DropWatcher:
    """Calls ``heard`` from a thread of its own for each drop on any node, while it is entered.

    A node whose agent is away has no events; its packets are dropped or delivered all the same.
    """

    def __init__(self, lab: Lab, heard: Callable[[Drop], None]) -> None:
        self._lab = lab
        self._heard = heard
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[int, bytes] = {}
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True, name="drops")

    def __enter__(self) -> Self:
        for node in self._lab.nodes:
            with contextlib.suppress(OSError):
                self._connect(node.name)
        self._selector.register(self._stop, selectors.EVENT_READ, None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopper)
        self._thread.join(5.0)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        os.close(self._stop)

    def _connect(self, node: str) -> None:
        """Subscribe to one node, and wait for the line that says the subscription stands."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(str(self._lab.paths.socket(node)))
            sock.sendall(encode({"method": _METHOD, "params": {"types": ["drop"], "hello": True}}))
            first = b""
            while b"\n" not in first:
                more = sock.recv(65536)
                if not more:
                    raise OSError("hung up")
                first += more
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, node)
        self._buffers[sock.fileno()] = first

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                assert isinstance(key.fileobj, socket.socket)
                self._read(key.fileobj, key.data)

    def _read(self, sock: socket.socket, node: str) -> None:
        try:
            data = sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(sock)
            sock.close()
            return
        *lines, rest = (self._buffers[sock.fileno()] + data).split(b"\n")
        self._buffers[sock.fileno()] = rest
        for line in lines:
            drop = _decode(node, line)
            if drop is not None:
                self._heard(drop)


def _decode(node: str, line: bytes) -> Drop | None:
    """A line of the stream as a drop; ``None`` for anything else."""
    try:
        event = json.loads(line)["event"]
        if event.get("type") != "drop":
            return None
        source, destination = event["source"], event["destination"]
        return Drop(
            node=node,
            reason=str(event["text"] or event["reason"]),
            proto=PROTOCOL_NAMES.get(event["protocol"], str(event["protocol"])),
            source=str(source["address"]),
            destination=str(destination["address"]),
            sport=int(source["port"]),
            dport=int(destination["port"]),
            event=event,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
