"""Rows of the load-balancing maps, bound by field name to the structs of ``lb_maps.h``."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, Final

from attrs import field, frozen

from axoneme.core.datapath.typed import TypedMap, address_bytes, network, prefix_bits
from axoneme.core.errors import DatapathError
from axoneme.core.model.balancing import (
    Address,
    Backend,
    Flag,
    Frontend,
    FrontendKey,
    Kind,
    Network,
    ServicePort,
    State,
)

FRONTENDS: Final = "axo_lb_frontends"
SLOTS: Final = "axo_lb_slots"
BACKENDS: Final = "axo_lb_backends"
NAMES: Final = "axo_lb_names"
MEMBERS: Final = "axo_lb_members"
RANGES: Final = "axo_lb_ranges"
MAGLEV: Final = "axo_lb_maglev"
FLOWS: Final = "axo_lb_flows"
AFFINITY: Final = "axo_lb_affinity"

ANY4: Final = IPv4Address("0.0.0.0")  # a key, nobody binds to it
ORDER: Final = (BACKENDS, MEMBERS, SLOTS, NAMES, RANGES, FRONTENDS)
"""Who is named is there before whoever names it; removals go the other way."""


@frozen(kw_only=True)
class KernelFrontendKey:
    """``struct axo_lb_key``."""

    addr: Address | None
    port: int = network()
    proto: int = field()


@frozen
class KernelFrontend:
    """``struct axo_lb_frontend``."""

    id: int
    service: int
    sets: tuple[int, ...]
    affinity_s: int
    flags: int
    algorithm: int
    kind: int


@frozen
class KernelSlotKey:
    """``struct axo_lb_slot_key``."""

    set: int
    slot: int


@frozen
class KernelSlot:
    """``struct axo_lb_slot``."""

    backend: int


@frozen
class KernelId:
    """``struct axo_lb_backend_key``, ``struct axo_lb_name_key``."""

    id: int


@frozen(kw_only=True)
class KernelBackend:
    """``struct axo_lb_backend``."""

    addr: Address | None
    port: int = network()
    proto: int = field()
    flags: int = field()


@frozen
class KernelName:
    """``struct axo_lb_name``."""

    addr: Address | None
    port: int = network()


@frozen
class KernelMemberKey:
    """``struct axo_lb_member_key``."""

    set: int
    backend: int


@frozen
class KernelYes:
    """``struct axo_lb_member``, ``struct axo_lb_range``."""

    yes: int


@frozen
class KernelRangeKey:
    """``struct axo_lb_range_key``."""

    prefixlen: int
    service: int
    addr: Address


@frozen
class KernelAffinityKey:
    """``struct axo_lb_affinity_key``."""

    client: Address | None
    service: int


@frozen
class KernelAffinity:
    """``struct axo_lb_affinity``; ``used`` in seconds of CLOCK_MONOTONIC."""

    backend: int
    used: int


MODELS: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    FRONTENDS: (KernelFrontendKey, KernelFrontend),
    SLOTS: (KernelSlotKey, KernelSlot),
    BACKENDS: (KernelId, KernelBackend),
    NAMES: (KernelId, KernelName),
    MEMBERS: (KernelMemberKey, KernelYes),
    RANGES: (KernelRangeKey, KernelYes),
    AFFINITY: (KernelAffinityKey, KernelAffinity),
}

Entries = dict[str, dict[bytes, bytes]]
"""Map → raw key → raw value."""

_PAIR: Final = struct.Struct("=II")
_WORD: Final = struct.Struct("=I")
_BACKEND: Final = struct.Struct("!16sHBB")
_YES: Final = _WORD.pack(1)
_SAMPLE: Final = IPv4Address("192.0.2.1")
_VIRTUAL: Final = (Kind.LOAD_BALANCER, Kind.EXTERNAL_IPS)
"""Addresses that nobody has: a port that is no service's is nobody's either."""


class Encoder:
    """A service's port as entries. The two that come in thousands are packed by hand, and compared
    with what the C says when the encoder is made."""

    def __init__(
        self, typed: Callable[[str], TypedMap[Any, Any]], algorithms: dict[str, int]
    ) -> None:
        self._typed = {name: typed(name) for name in MODELS}
        self._algorithms = algorithms
        rest = KernelFrontend(0, 0, (0, 0), 0, int(Flag.NOTHING), 0, 0)
        self._rest = self._typed[FRONTENDS].values_codec.pack(rest)
        sample = Backend(_SAMPLE, 0x1234, 17, State.TERMINATING)
        slow = self._typed[BACKENDS].values_codec.pack(
            KernelBackend(addr=_SAMPLE, port=0x1234, proto=17, flags=State.TERMINATING)
        )
        if slow != _backend(sample) or self._key(SLOTS, KernelSlotKey(7, 9)) != _PAIR.pack(7, 9):
            raise DatapathError("the layout of axo_lb_backends or axo_lb_slots has changed")

    def entries(self, row: ServicePort) -> Entries:
        """All entries of a row."""
        found: Entries = {name: {} for name in ORDER}
        self.add(row, found)
        return found

    def add(self, row: ServicePort, found: Entries) -> None:
        """Put all entries of a row to those of others."""
        backends, members = found[BACKENDS], found[MEMBERS]
        for backend in row.backends:
            backends[_WORD.pack(backend.id)] = _backend(backend)
        for number, chosen in ((row.set_all, row.chosen), (row.set_local, row.chosen_local)):
            self._slots(found[SLOTS], number, chosen)
            if row.affinity_seconds:
                members.update({_PAIR.pack(number, b.id): _YES for b in chosen})
        for network_ in row.ranges:
            found[RANGES][self._range(row.number, network_)] = _YES
        for frontend in row.frontends:
            self._frontend(found, row, frontend)
        found[FRONTENDS].update(dict.fromkeys(self.rests(row), self._rest))

    def backend(self, key: bytes, value: bytes) -> Backend:
        """The inverse, for a backend."""
        typed = self._typed[BACKENDS]
        found = typed.values_codec.unpack(value)
        number = typed.keys_codec.unpack(key).id
        return Backend(found.addr, found.port, found.proto, id=number)

    @staticmethod
    def _slots(slots: dict[bytes, bytes], number: int, chosen: tuple[Backend, ...]) -> None:
        for slot, backend in enumerate(chosen, 1):
            slots[_PAIR.pack(number, slot)] = _WORD.pack(backend.id)
        if chosen:  # last: whoever reads a new count finds its slots
            slots[_PAIR.pack(number, 0)] = _WORD.pack(len(chosen))

    def _range(self, number: int, prefix: Network) -> bytes:
        bits = 32 + prefix_bits(prefix)
        return self._key(RANGES, KernelRangeKey(bits, number, prefix.network_address))

    def _frontend(self, found: Entries, row: ServicePort, frontend: Frontend) -> None:
        key, codec = frontend.key, self._typed[FRONTENDS]
        outside = row.set_local if frontend.local_out else row.set_all
        inside = row.set_local if frontend.local_in else row.set_all
        value = KernelFrontend(
            frontend.id,
            row.number,
            (outside, inside),
            row.affinity_seconds,
            int(frontend.flags),
            self._algorithms.get(row.algorithm, 0),
            int(frontend.kind),
        )
        found[FRONTENDS][frontend_key(codec, key)] = codec.values_codec.pack(value)
        if key.address is not None:
            name = self._typed[NAMES].values_codec.pack(KernelName(key.address, key.port))
            found[NAMES][_WORD.pack(frontend.id)] = name

    def rests(self, row: ServicePort) -> list[bytes]:
        """Keys for all other ports of a row's addresses; services with one address share them."""
        codec = self._typed[FRONTENDS]
        return [
            frontend_key(codec, FrontendKey(f.key.address, 0, 0, f.key.version))
            for f in row.frontends
            if f.kind in _VIRTUAL and Flag.REDIRECT not in f.flags
        ]

    def _key(self, name: str, model: Any) -> bytes:
        return self._typed[name].keys_codec.pack(model)


def frontend_key(codec: TypedMap[Any, Any], key: FrontendKey) -> bytes:
    """Raw key. This node's own sockets know node ports by an address of zeros of the family."""
    address = key.address
    if address is None:
        address = ANY4 if key.version == 4 else None
    return codec.keys_codec.pack(KernelFrontendKey(addr=address, port=key.port, proto=key.proto))


def _backend(backend: Backend) -> bytes:
    return _BACKEND.pack(address_bytes(backend.address), backend.port, backend.proto, backend.state)


def read_key(key: KernelFrontendKey) -> FrontendKey:
    """The inverse of :func:`frontend_key`."""
    address = key.addr
    version = address.version if address is not None else 6
    any_address = address is None or int(address) == 0
    return FrontendKey(None if any_address else address, key.port, key.proto, version)
