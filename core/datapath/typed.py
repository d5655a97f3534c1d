"""Typed maps: attrs models bound to the C layout by field name.

The binding is checked once, when it is made: a field that one side does not know, a size that
does not fit, a hole that the compiler padded or a bit field is refused with the names. Declared
padding (``pad``, ``pad2``, ``reserved``) is written as zero and absent from models.

What a model's field may be: ``int`` (also ``IntEnum``, ``bool``) for a number, in network byte
order when declared with :func:`network`; ``bytes`` for anything of that size; an address of
``ipaddress`` for 16 bytes (IPv4 is ``::ffff:a.b.c.d``; ``| None`` makes all-zero ``None``) or 4;
``str`` for a MAC in 6 bytes; ``tuple[int, ...]`` for an array of numbers; an attrs class for a
struct. A bare scalar key or value is ``int``.
"""

from __future__ import annotations

import functools
import operator
import struct
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, Generic, TypeVar

import attrs

from axoneme.core.datapath.layouts import Field, Layout
from axoneme.core.datapath.maps import ANY, BpfMap
from axoneme.core.errors import DatapathError

K = TypeVar("K")
V = TypeVar("V")

_ORDER: Final = "axoneme.byte_order"
_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_MAPPED: Final = bytes(10) + b"\xff\xff"
IPAddress = IPv4Address | IPv6Address


def network(**options: Any) -> Any:
    """An attrs field whose C member is in network byte order."""
    return attrs.field(metadata={_ORDER: "big"}, **options)


def address_bytes(address: IPAddress | None) -> bytes:
    """16 bytes, network order; IPv4 is mapped, ``None`` is all zero."""
    if address is None:
        return bytes(16)
    return _MAPPED + address.packed if address.version == 4 else address.packed


def address_from_bytes(raw: bytes) -> IPAddress:
    """The inverse of :func:`address_bytes`, for addresses."""
    return IPv4Address(raw[12:]) if raw[:12] == _MAPPED else IPv6Address(raw)


def prefix_bits(prefix: IPv4Network | IPv6Network) -> int:
    """Prefix length over the 16-byte form."""
    return prefix.prefixlen + (96 if prefix.version == 4 else 0)


Convert = Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


class Codec(Generic[K]):
    """Packs and unpacks one model for one layout."""

    def __init__(self, model: type[K], layout: Layout) -> None:
        self.model: Any = model
        self.layout = layout
        self.names: list[str] = []
        self._pack: list[Convert] = []
        self._unpack: list[Convert] = []
        self._scalar = not attrs.has(model)
        codes = self._bind_scalar() if self._scalar else self._bind_model()
        self._struct = struct.Struct("=" + codes)
        if self._struct.size != layout.size:
            raise self._refused(f"{self._struct.size} bytes bound of {layout.size}")

    def _refused(self, why: str) -> DatapathError:
        return DatapathError(
            f"model {self.model.__name__} does not fit C layout {self.layout.name}: {why}"
        )

    def _bind_scalar(self) -> str:
        if self.model is bytes:
            return self._add("", f"{self.layout.size}s", bytes, _same)
        if self.model is not int or [f.name for f in self.layout.fields] != [""]:
            raise self._refused("an int is for a number, use an attrs class for a struct")
        return self._number(self.layout.fields[0], int, "little")

    def _bind_model(self) -> str:
        hints = typing.get_type_hints(self.model, vars(sys.modules[self.model.__module__]))
        wanted = {a.name: a for a in attrs.fields(self.model)}
        known = {f.name for f in self.layout.fields if not f.padding}
        holes = [(f.offset, f.size) for f in self.layout.fields if f.hidden]
        if holes := holes or list(self.layout.holes()):
            at, size = holes[0]
            raise self._refused(f"the C struct has {size} bytes of hidden padding at {at}")
        if unknown := sorted(set(wanted) - known):
            raise self._refused(f"the C struct has no field {', '.join(unknown)}")
        if missing := sorted(known - set(wanted)):
            raise self._refused(f"the model lacks {', '.join(missing)}")
        codes = ""
        for field in self.layout.fields:
            if field.padding:
                codes += f"{field.size}x"
                continue
            order = wanted[field.name].metadata.get(_ORDER, "native")
            codes += self._bind_field(field, hints[field.name], order)
        return codes

    def _bind_field(self, field: Field, hint: Any, order: str) -> str:
        kinds, optional = _alternatives(hint)
        size = f"{field.size}s"
        if all(k in (IPv4Address, IPv6Address) for k in kinds):
            return self._address(field, kinds, optional)
        if len(kinds) != 1 or optional:
            raise self._refused(f"field {field.name} has type {hint}")
        kind = kinds[0]
        if kind is bytes:
            return self._add(field.name, size, _exact(field), _same)
        if kind is str and field.size == 6:
            return self._add(field.name, size, _mac_bytes, _mac_text)
        if typing.get_origin(kind) is tuple and field.kind == "array" and not field.struct:
            return self._array(field)
        if isinstance(kind, type) and attrs.has(kind) and field.struct:
            inner: Codec[Any] = Codec(kind, field.struct)
            return self._add(field.name, size, inner.pack, inner.unpack)
        if isinstance(kind, type) and issubclass(kind, int) and field.kind == "scalar":
            return self._number(field, kind, order)
        raise self._refused(f"field {field.name} ({field.kind}, {field.size} B) as {kind}")

    def _add(self, name: str, code: str, pack: Convert, unpack: Convert) -> str:
        self.names.append(name)
        self._pack.append(pack)
        self._unpack.append(unpack)
        return code

    def _number(self, field: Field, kind: Any, order: str) -> str:
        back = _same if kind is int else kind
        if order == "big" and field.size > 1:
            size = field.size
            return self._add(
                field.name,
                f"{size}s",
                lambda v: int(v).to_bytes(size, "big"),
                lambda raw: back(int.from_bytes(raw, "big")),
            )
        code = _CODES[field.size]
        return self._add(field.name, code.lower() if field.signed else code, int, back)

    def _array(self, field: Field) -> str:
        form = struct.Struct(f"={field.count}{_CODES[field.size // field.count]}")
        return self._add(field.name, f"{field.size}s", lambda v: form.pack(*v), form.unpack)

    def _address(self, field: Field, kinds: tuple[Any, ...], optional: bool) -> str:
        if field.size == 4 and kinds == (IPv4Address,):
            return self._add(field.name, "4s", lambda a: a.packed, IPv4Address)
        if field.size != 16:
            raise self._refused(f"field {field.name} has {field.size} bytes, an address 16")
        empty = bytes(16)

        def unpack(raw: bytes) -> IPAddress | None:
            return None if optional and raw == empty else address_from_bytes(raw)

        return self._add(field.name, "16s", address_bytes, unpack)

    def pack(self, value: K) -> bytes:
        """The bytes of a model."""
        if self._scalar:
            return self._struct.pack(self._pack[0](value))
        try:
            return self._struct.pack(
                *[f(getattr(value, n)) for n, f in zip(self.names, self._pack, strict=True)]
            )
        except (struct.error, OverflowError, AttributeError) as exc:
            raise DatapathError(f"{value!r} does not fit {self.layout.name}: {exc}") from exc

    def unpack(self, raw: bytes) -> K:
        """The model of bytes."""
        values = self._struct.unpack(raw)
        if self._scalar:
            return typing.cast(K, self._unpack[0](values[0]))
        pairs = zip(self.names, self._unpack, values, strict=True)
        return typing.cast(K, self.model(**{name: f(value) for name, f, value in pairs}))

    def add(self, rows: list[bytes]) -> K:
        """Sum numbers over the slots of a per-CPU value; other fields are of the first slot."""
        models = [self.unpack(row) for row in rows]
        if self._scalar:
            return functools.reduce(operator.add, models)
        sums = {
            name: sum(getattr(m, name) for m in models)
            for name in self.names
            if type(getattr(models[0], name)) is int
        }
        return typing.cast(K, attrs.evolve(typing.cast(Any, models[0]), **sums))


def _alternatives(hint: Any) -> tuple[tuple[Any, ...], bool]:
    """``X | None`` → ``((X,), True)``."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = tuple(k for k in typing.get_args(hint) if k is not type(None))
        return kinds, len(kinds) < len(typing.get_args(hint))
    return (hint,), False


def _exact(field: Field) -> Convert:
    def check(value: bytes) -> bytes:
        if len(value) != field.size:
            raise struct.error(f"{field.name} is {len(value)} bytes, {field.size} wanted")
        return value

    return check


def _mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", "")) if text else bytes(6)


def _mac_text(raw: bytes) -> str:
    return raw.hex(":")


class TypedMap(Generic[K, V]):
    """A map of models. Reading a per-CPU map gives the sum over the CPUs."""

    def __init__(self, bpf_map: BpfMap, key: type[K], value: type[V]) -> None:
        if bpf_map.definition is None:
            raise DatapathError(f"map {bpf_map.name} has no known layout")
        sizes = (bpf_map.definition.key.size, bpf_map.definition.value.size)
        if sizes != (bpf_map.info.key_size, bpf_map.info.value_size):
            raise DatapathError(f"map {bpf_map.name} has other sizes than its layout")
        self.map = bpf_map
        self.keys_codec: Codec[K] = Codec(key, bpf_map.definition.key)
        self.values_codec: Codec[V] = Codec(value, bpf_map.definition.value)

    def _value(self, raw: bytes) -> V:
        if self.map.percpu:
            return self.values_codec.add(self.map.cpu_values(raw))
        return self.values_codec.unpack(raw)

    def _raw(self, value: V) -> bytes:
        raw = self.values_codec.pack(value)
        if self.map.percpu:
            raise DatapathError(f"map {self.map.name} is per CPU: only programs write it")
        return raw

    def get(self, key: K) -> V | None:
        """The value, or ``None``."""
        raw = self.map.lookup(self.keys_codec.pack(key))
        return None if raw is None else self._value(raw)

    def __setitem__(self, key: K, value: V) -> None:
        self.map.update(self.keys_codec.pack(key), self._raw(value), ANY)

    def delete(self, key: K) -> bool:
        """Remove; ``False`` if it was not there."""
        return self.map.delete(self.keys_codec.pack(key))

    def items(self) -> Iterator[tuple[K, V]]:
        """All entries."""
        for key, value in self.map.items():
            yield self.keys_codec.unpack(key), self._value(value)

    def update_batch(self, entries: Mapping[K, V] | Iterable[tuple[K, V]]) -> None:
        """Set many entries with few system calls."""
        pairs = entries.items() if isinstance(entries, Mapping) else entries
        self.map.update_batch((self.keys_codec.pack(k), self._raw(v)) for k, v in pairs)

    def delete_batch(self, keys: Iterable[K]) -> None:
        """Remove many entries; those that are not there are skipped."""
        self.map.delete_batch(self.keys_codec.pack(key) for key in keys)

    def replace(self, wanted: Mapping[K, V]) -> tuple[int, int]:
        """Make the contents equal to ``wanted``; returns how many were set and removed."""
        return self.map.replace({self.keys_codec.pack(k): self._raw(v) for k, v in wanted.items()})
