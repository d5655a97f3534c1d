"""Rows to map entries, and the counters back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from attrs import frozen

from axoneme.core.datapath.typed import TypedMap, network
from axoneme_portguard.tables import PROTOCOLS, GuardedPort

MAP = "axo_portguard"
Row = tuple[int, str]


@frozen
class Key:
    """``struct portguard_key``; the fields are matched by name when the map is opened."""

    port: int = network()
    proto: int = 0


@frozen
class Count:
    """``struct portguard_count``."""

    packets: int = 0
    bytes: int = 0


PortMap = TypedMap[Key, Count]


def key_of(row: Row) -> Key:
    """The map's key for a row of the table."""
    port, protocol = row
    return Key(port=port, proto=PROTOCOLS[protocol])


class PortTarget:
    """Target of a reconciler: makes the map hold the guarded ports, keeping their counts."""

    name = "portguard"

    def __init__(self, open_map: Callable[[], PortMap]) -> None:
        self._open = open_map

    def apply(
        self, upserts: Mapping[Row, GuardedPort], deletes: Mapping[Row, GuardedPort]
    ) -> Mapping[Row, Exception]:
        """Add what is missing, then remove what is not wanted."""
        ports = self._open()
        for row in upserts:
            if ports.get(key_of(row)) is None:
                ports[key_of(row)] = Count()
        for row in deletes:
            ports.delete(key_of(row))
        return {}

    def resync(self, desired: Mapping[Row, GuardedPort]) -> Mapping[Row, Exception]:
        """The same, compared with everything that the map holds."""
        wanted = {key_of(row) for row in desired}
        for key, _ in list(self._open().items()):
            if key not in wanted:
                self._open().delete(key)
        return self.apply(desired, {})


def counts(ports: PortMap) -> Iterator[tuple[Row, Count]]:
    """The counters of all guarded ports, sorted."""
    names = {number: name for name, number in PROTOCOLS.items()}
    for key, count in sorted(ports.items(), key=lambda item: (item[0].port, item[0].proto)):
        yield (key.port, names[key.proto]), count
