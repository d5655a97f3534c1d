"""The stage that answers, and rows to its map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from axoneme.core.reconcile.maps import MapTarget
from axoneme.plugins.l2_announcements.compute import Announcement
from axoneme.plugins.l2_announcements.greet import hear

if TYPE_CHECKING:
    from axoneme.core.datapath.registry import DatapathRegistry

Address = IPv4Address | IPv6Address
SOURCE: Final = Path(__file__).with_name("l2.bpf.c")
MAP: Final = "axo_l2"
ANSWERS: Final = "axo_l2_answers"
RowKey = tuple[Address, int]


@frozen
class L2Key:
    """``struct l2_key``."""

    addr: Address
    ifindex: int


@frozen
class L2Value:
    """``struct l2_value``."""

    mac: str


def register(datapath: DatapathRegistry) -> None:
    """Before the tunnel looks at the frame."""
    datapath.stage("from_netdev_frame", "l2_from_netdev_frame", SOURCE, order=-10)


def encode(row: Announcement) -> tuple[L2Key, L2Value]:
    """An entry."""
    return L2Key(row.address, row.ifindex), L2Value(row.mac)


class AnswerTarget:
    """The map, opened when maps are, and the groups that devices listen to."""

    name = MAP

    def __init__(self, typed: Callable[[], Any]) -> None:
        self._typed = typed
        self._lazy: MapTarget[RowKey, Announcement] | None = None
        self._heard: set[tuple[Address, str]] = set()

    def apply(
        self, upserts: Mapping[RowKey, Announcement], deletes: Mapping[RowKey, Announcement]
    ) -> Mapping[RowKey, Exception]:
        """What has changed."""
        self._hear(upserts, on=True)
        failed = self._target.apply(upserts, deletes)
        self._hear(deletes, on=False)
        return failed

    def resync(self, desired: Mapping[RowKey, Announcement]) -> Mapping[RowKey, Exception]:
        """Everything."""
        self._hear(desired, on=True)
        return self._target.resync(desired)

    def _hear(self, rows: Mapping[RowKey, Announcement], *, on: bool) -> None:
        for row in rows.values():
            key = (row.address, row.ifname)
            if (key in self._heard) != on:
                hear(row.address, row.ifname, on=on)
                self._heard ^= {key}

    @property
    def _target(self) -> MapTarget[RowKey, Announcement]:
        if self._lazy is None:
            self._lazy = MapTarget(MAP, self._typed(), encode)
        return self._lazy
