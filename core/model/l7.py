"""What a proxy above L4 must know of policy: whom to ask for a protocol, and the rows it obeys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from attrs import frozen

from axoneme.core.errors import AxonemeError
from axoneme.core.model.policy import Direction

MIN_PRECEDENCE: Final = 129
MAX_PRECEDENCE: Final = 254


@frozen
class L7Protocol:
    """A protocol that a plugin's proxy enforces.

    ``precedence`` orders redirects against each other, between 129 and 254: reference §2.3 (DNS
    is 255 - 121). ``proxy_port`` answers with the port that the proxy listens on, 0 while there is
    none: traffic that only an L7 rule allows is dropped until then.
    """

    name: str
    precedence: int
    proxy_port: Callable[[], int]
    directions: tuple[Direction, ...] = (Direction.EGRESS,)


class L7Registry:
    """Protocols by name, of one process. A plugin registers; policy looks up."""

    def __init__(self) -> None:
        self._protocols: dict[str, L7Protocol] = {}
        self._listeners: list[Callable[[], None]] = []

    def add(self, protocol: L7Protocol) -> None:
        """Register a protocol; a second one of that name is an error."""
        if protocol.name in self._protocols:
            raise AxonemeError(f"L7 protocol {protocol.name} is registered twice")
        if not MIN_PRECEDENCE <= protocol.precedence <= MAX_PRECEDENCE:
            raise AxonemeError(
                f"L7 protocol {protocol.name}: precedence {protocol.precedence} is outside "
                f"{MIN_PRECEDENCE}-{MAX_PRECEDENCE}"
            )
        self._protocols[protocol.name] = protocol

    def get(self, name: str) -> L7Protocol | None:
        """The protocol of that name."""
        return self._protocols.get(name)

    def __iter__(self) -> Iterator[L7Protocol]:
        return iter(self._protocols.values())

    def changed(self) -> None:
        """To be called by a plugin when a proxy's port has changed, on the loop's thread."""
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after :meth:`changed`."""
        self._listeners.append(listener)


@frozen
class L7Row:
    """Row of table ``l7_policy``: what holds for one L4 prefix of one peer of one subject.

    Key: all but ``protocol``, ``rules`` and ``whole``. There is a row for each policy entry that
    redirects, and for each plain allow whose traffic such an entry may catch. ``rules`` of ``None``
    is everything. A proxy looks up the rows that cover a packet with :func:`rows_for`, and allows
    what any of them allows.

    ``port`` is host order, ``bits`` counts protocol and port: 0 anything, 8 any port, 24 one port.
    """

    subject: int
    egress: bool
    peer: int
    ip_protocol: int
    port: int
    bits: int
    protocol: str
    """Of the proxy; empty in a plain allow."""
    rules: tuple[str, ...] | None
    whole: bool = False
    """It has weighed all that is said of the peer, of anybody too: no other row counts."""

    @property
    def key(self) -> tuple[int, bool, int, int, int, int]:
        """The table's key."""
        return self.subject, self.egress, self.peer, self.ip_protocol, self.port, self.bits

    def covers(self, ip_protocol: int, port: int) -> bool:
        """Whether a packet's protocol and destination port lie in the prefix."""
        if self.bits == 0:
            return True
        drop = 24 - self.bits
        return ip_protocol == self.ip_protocol and port >> drop == self.port >> drop


def rows_for(rows: Iterable[L7Row], peer: int, ip_protocol: int, port: int) -> list[L7Row]:
    """The rows of one subject and direction that say what a packet to ``peer`` may carry.

    These are all that cover it, the peer's own and those of peer 0. Where one of the peer's own is
    ``whole``, it is the longest of these alone; else where one of peer 0 is, that one.
    """
    covering = [r for r in rows if r.peer in (peer, 0) and r.covers(ip_protocol, port)]
    whole = [r for r in covering if r.whole]
    if not whole:
        return covering
    return [max(whole, key=lambda r: (r.peer == peer, r.bits))]
