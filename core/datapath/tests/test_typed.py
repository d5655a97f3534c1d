"""Models bound to C layouts: what fits, what is refused, how values look in memory."""

from __future__ import annotations

import os
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import attrs
import pytest

from axoneme.core.datapath.layouts import layout_of
from axoneme.core.datapath.maps import BpfMap, possible_cpus
from axoneme.core.datapath.objects import MapDef
from axoneme.core.datapath.typed import Codec, TypedMap, network, prefix_bits
from axoneme.core.errors import DatapathError

ADDRESS = ["axo_addr", [["w", "unsigned int", [4]]], "struct_packed"]
ENDPOINT = [
    "endpoint",
    [
        ["ip", ADDRESS],
        ["port", "unsigned short"],
        ["flags", "unsigned char"],
        ["delta", "signed char"],
        ["mac", "unsigned char", [6]],
        ["pad", "unsigned char", [2]],
        ["words", "unsigned int", [2]],
    ],
    "struct_packed",
]


class Flag(IntEnum):
    NONE = 0
    HOST = 1


@attrs.frozen
class Endpoint:
    ip: IPv4Address | IPv6Address | None
    flags: Flag
    delta: int
    mac: str
    words: tuple[int, ...]
    port: int = network(default=0)


def codec(model: Any, description: Any) -> Codec[Any]:
    return Codec(model, layout_of(description))


def test_a_model_goes_into_memory_and_back() -> None:
    """Network order where declared, mapped IPv4, MAC text, arrays, zero padding."""
    bound = codec(Endpoint, ENDPOINT)
    value = Endpoint(ip_address("10.1.2.3"), Flag.HOST, -2, "02:00:00:00:00:0a", (1, 2), 8080)
    raw = bound.pack(value)
    assert raw[:16] == bytes(10) + b"\xff\xff\x0a\x01\x02\x03"
    assert raw[16:18] == b"\x1f\x90"
    assert raw[26:28] == b"\0\0"
    assert bound.unpack(raw) == value
    assert isinstance(bound.unpack(raw).flags, Flag)


@pytest.mark.parametrize("text", ["::1", "fd00::5", "192.0.2.1"])
def test_addresses_survive(text: str) -> None:
    """Both families share the 16 bytes."""
    bound = codec(Endpoint, ENDPOINT)
    value = Endpoint(ip_address(text), Flag.NONE, 0, "00:00:00:00:00:00", (0, 0))
    assert bound.unpack(bound.pack(value)).ip == ip_address(text)


def test_no_address_is_all_zero() -> None:
    """Where the model allows None, zero means it."""
    bound = codec(Endpoint, ENDPOINT)
    assert bound.unpack(bytes(36)).ip is None


def test_field_that_c_does_not_have_is_refused() -> None:
    """A model with a misspelt field never reaches the kernel."""
    model = attrs.make_class(
        "Wrong", {"ip": attrs.field(type=bytes), "prot": attrs.field(type=int)}
    )
    with pytest.raises(DatapathError, match="no field prot"):
        codec(model, ENDPOINT)


def test_field_that_the_model_lacks_is_refused() -> None:
    """A struct that grew a field is noticed at start, not by packets."""

    @attrs.frozen
    class Short:
        ip: bytes

    with pytest.raises(DatapathError, match="lacks delta, flags, mac, port, words"):
        codec(Short, ENDPOINT)


def test_hidden_padding_is_refused() -> None:
    """A hole would be garbage in a key: two equal keys would differ."""

    @attrs.frozen
    class Holey:
        a: int
        b: int

    holey = ["holey", [["a", "unsigned char"], ["b", "unsigned int"]], "struct"]
    with pytest.raises(DatapathError, match="3 bytes of hidden padding at 1"):
        codec(Holey, holey)


def test_padding_that_bcc_reports_is_refused() -> None:
    """bcc names the holes of some structs __pad_*."""

    @attrs.frozen
    class Padded:
        a: int
        b: int

    padded = [
        "padded",
        [["a", "unsigned char"], ["__pad_1", "char", [3]], ["b", "unsigned int"]],
        "struct_packed",
    ]
    with pytest.raises(DatapathError, match="hidden padding"):
        codec(Padded, padded)


def test_address_needs_sixteen_bytes() -> None:
    """An address type on a number of 8 bytes is a mistake."""

    @attrs.frozen
    class Bad:
        x: IPv6Address

    with pytest.raises(DatapathError, match="an address 16"):
        codec(Bad, ["s", [["x", "unsigned long long"]], "struct"])


def test_value_out_of_range_is_an_error_of_ours() -> None:
    """A number that does not fit is named, not cut."""
    bound = codec(Endpoint, ENDPOINT)
    with pytest.raises(DatapathError, match="does not fit"):
        bound.pack(Endpoint(None, Flag.NONE, 500, "00:00:00:00:00:00", (0, 0)))


def test_prefix_bits_count_over_the_mapped_form() -> None:
    """IPv4 /24 is /120 of the 16 bytes."""
    assert prefix_bits(ip_network("10.0.0.0/24")) == 120
    assert prefix_bits(ip_network("fd00::/8")) == 8


@attrs.frozen
class Counter:
    packets: int
    bytes: int


def typed(kind: int) -> TypedMap[int, Counter]:
    description = ["c", [["packets", "unsigned long long"], ["bytes", "unsigned long long"]]]
    made = BpfMap.create(kind, 4, 16, 8)
    made.definition = MapDef(
        "c", kind, 4, 16, 8, 0, "", "unsigned int", [*description, "struct_packed"]
    )
    return TypedMap(made, int, Counter)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: CAP_BPF")
def test_typed_map_in_the_kernel() -> None:
    """Set, get, iterate, replace and delete by models."""
    table = typed(1)
    table[7] = Counter(1, 60)
    assert table.get(7) == Counter(1, 60)
    assert table.get(8) is None
    assert table.replace({7: Counter(1, 60), 9: Counter(2, 2)}) == (1, 0)
    assert dict(table.items()) == {7: Counter(1, 60), 9: Counter(2, 2)}
    assert table.delete(7)
    table.map.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: CAP_BPF")
def test_typed_per_cpu_map_is_a_sum() -> None:
    """Counters are added over the CPUs; writing them is refused."""
    table = typed(5)
    cpus = possible_cpus()
    one = (3).to_bytes(8, "little") + (100).to_bytes(8, "little")
    table.map.update((1).to_bytes(4, "little"), one * cpus)
    assert table.get(1) == Counter(3 * cpus, 100 * cpus)
    with pytest.raises(DatapathError, match="per CPU"):
        table[1] = Counter(0, 0)
    table.map.close()
