"""The slots of ``axo_runtime``: what programs read about this node, as rows.

The numbers of the slots come from the header. Addresses lie in memory as on the wire (``maps.h``).
Generations are no rows: they are raised by whoever changes maps.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

from axoneme.core.datapath.maps import BpfMap
from axoneme.core.errors import AxonemeError
from axoneme.core.state import Table, TableRegistry

_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")


@frozen
class RuntimeFact:
    """Row of table ``runtime``. Key: ``name``, as in ``AXO_RUNTIME_SLOTS``."""

    name: str
    value: int
    """The u64 as the programs see it."""
    text: str = ""
    """For people."""


def runtime_table(tables: TableRegistry) -> Table[str, RuntimeFact]:
    """Make table ``runtime``."""
    return tables.create("runtime", RuntimeFact, key=lambda r: r.name)


def address_facts(name: str, address: IPv4Address | IPv6Address | None) -> list[RuntimeFact]:
    """``<name>_V4``, or both halves of ``<name>_V6``."""
    if address is None:
        return []
    raw = address.packed
    if isinstance(address, IPv4Address):
        return [RuntimeFact(f"{name}_V4", _word(raw), str(address))]
    return [
        RuntimeFact(f"{name}_V6_HI", _word(raw[:8]), str(address)),
        RuntimeFact(f"{name}_V6_LO", _word(raw[8:]), str(address)),
    ]


def mac_fact(name: str, mac: str) -> RuntimeFact:
    """Six bytes of a hardware address."""
    return RuntimeFact(name, _word(bytes.fromhex(mac.replace(":", ""))), mac)


def number_fact(name: str, value: int) -> RuntimeFact:
    """A number."""
    return RuntimeFact(name, value, str(value))


def _word(raw: bytes) -> int:
    value: int = _U64.unpack(raw.ljust(8, b"\0"))[0]
    return value


class RuntimeMap:
    """``axo_runtime`` by slot; one caller at a time, from any thread."""

    def __init__(self, bpf_map: BpfMap) -> None:
        self._map = bpf_map
        self._lock = threading.Lock()

    def get(self, slot: int) -> int:
        """Read a slot."""
        with self._lock:
            raw = self._map.lookup(_U32.pack(slot))
        value: int = _U64.unpack(raw)[0] if raw else 0
        return value

    def set(self, slot: int, value: int) -> None:
        """Write a slot."""
        with self._lock:
            self._map.update(_U32.pack(slot), _U64.pack(value))


class RuntimeTarget:
    """Target of table ``runtime``; a row that goes leaves a zero. Generations are never touched."""

    name = "runtime"

    def __init__(
        self, runtime: RuntimeMap, slots: Mapping[str, int], after: Callable[[], object]
    ) -> None:
        self._runtime = runtime
        self._slots = slots
        self._after = after

    def apply(
        self, upserts: Mapping[str, RuntimeFact], deletes: Mapping[str, RuntimeFact]
    ) -> Mapping[str, Exception]:
        """Write what changed."""
        failed: dict[str, Exception] = {}
        values = {name: row.value for name, row in upserts.items()}
        changed = False
        for name, value in {**dict.fromkeys(deletes, 0), **values}.items():
            slot = self._slots.get(name)
            if slot is None:
                failed[name] = AxonemeError(f"axo_runtime has no slot {name}")
            elif self._runtime.get(slot) != value:
                self._runtime.set(slot, value)
                changed = True
        if changed:
            self._after()
        return failed

    def resync(self, desired: Mapping[str, RuntimeFact]) -> Mapping[str, Exception]:
        """Compare and write."""
        return self.apply(desired, {})
