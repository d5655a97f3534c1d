"""Layouts of C structs, as bcc reports them.

The C struct is the only source of a layout. bcc describes a map's key and value as nested lists
(``[name, fields, kind]``); here they become offsets. Byte order is not in the description:
a model that is bound to a layout says which fields are in network byte order.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from typing import Any, Final

from attrs import frozen

from axoneme.core.errors import DatapathError

_SCALARS: Final[dict[str, Any]] = {
    "_Bool": ctypes.c_bool,
    "char": ctypes.c_char,
    "signed char": ctypes.c_byte,
    "unsigned char": ctypes.c_ubyte,
    "short": ctypes.c_short,
    "unsigned short": ctypes.c_ushort,
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "long": ctypes.c_long,
    "unsigned long": ctypes.c_ulong,
    "long long": ctypes.c_longlong,
    "unsigned long long": ctypes.c_ulonglong,
}
_EXPLICIT_PADDING: Final = re.compile(r"_*pad\d*(_\w+)?|_*reserved\d*")


@frozen
class Field:
    """One member. ``offset`` and ``size`` in bytes; ``count`` is 0 unless it is an array."""

    name: str
    offset: int
    size: int
    kind: str  # "scalar" | "array" | "struct" | "union" | "bits"
    signed: bool = False
    count: int = 0
    struct: Layout | None = None

    @property
    def padding(self) -> bool:
        """Declared to fill a gap: written as zero, absent from models."""
        return not self.hidden and _EXPLICIT_PADDING.fullmatch(self.name) is not None

    @property
    def hidden(self) -> bool:
        """Put in by bcc where the C struct has a hole."""
        return self.name.startswith("__pad_")


@frozen
class Layout:
    """A struct (or a bare scalar: one field named ``""``). ``size`` in bytes."""

    name: str
    size: int
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field:
        """The field of that name."""
        for field in self.fields:
            if field.name == name:
                return field
        raise DatapathError(f"struct {self.name} has no field {name!r}")

    def holes(self) -> Iterator[tuple[int, int]]:
        """Bytes that belong to no field: ``(offset, size)``."""
        position = 0
        for field in self.fields:
            if field.offset > position:
                yield position, field.offset - position
            position = max(position, field.offset + field.size)
        if position < self.size:
            yield position, self.size - position


def _members(description: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    """``(name, type, array length | bit width | None)`` of each member."""
    for member in description[1]:
        if len(member) == 2:
            yield member[0], member[1], None
        elif isinstance(member[2], str):
            yield member[0], member, None
        else:
            yield member[0], member[1], member[2]


def ctype_of(description: Any) -> Any:
    """The ctypes type of a description; padding is explicit or follows the C rules."""
    if isinstance(description, str):
        if description not in _SCALARS:
            raise DatapathError(f"type {description!r} cannot be used in a map")
        return _SCALARS[description]
    kind = description[2] if len(description) > 2 else "struct"
    fields: list[Any] = []
    for number, (name, inner, extra) in enumerate(_members(description)):
        member = ctype_of(inner)
        if isinstance(extra, list):
            for length in reversed(extra):
                member = member * length
        full = name or f"__anon{number}"
        fields.append((full, member, extra) if isinstance(extra, int) else (full, member))
    space: dict[str, Any] = {"_fields_": fields}
    if kind == "struct_packed":
        space = {"_pack_": 1, "_layout_": "ms", "_fields_": fields}
    base = ctypes.Union if kind == "union" else ctypes.Structure
    return type(description[0] or "anonymous", (base,), space)


def layout_of(description: Any, name: str = "") -> Layout:
    """Offsets of a description."""
    ctype = ctype_of(description)
    size = ctypes.sizeof(ctype)
    if isinstance(description, str):
        signed = not description.startswith("unsigned") and description != "_Bool"
        return Layout(name or description, size, (Field("", 0, size, "scalar", signed),))
    fields = []
    for number, (member, inner, extra) in enumerate(_members(description)):
        slot = getattr(ctype, member or f"__anon{number}")
        fields.append(_field(member, inner, extra, slot))
    return Layout(name or description[0], size, tuple(fields))


def _field(name: str, inner: Any, extra: Any, slot: Any) -> Field:
    if isinstance(extra, int):
        return Field(name, slot.offset, slot.size & 0xFFFF, "bits")
    if isinstance(inner, str):
        signed = not inner.startswith("unsigned") and inner not in ("_Bool", "char")
        if isinstance(extra, list):
            return Field(name, slot.offset, slot.size, "array", signed, extra[0])
        return Field(name, slot.offset, slot.size, "scalar", signed)
    struct = layout_of(inner)
    if isinstance(extra, list):
        return Field(name, slot.offset, slot.size, "array", False, extra[0], struct)
    kind = "union" if inner[2:] == ["union"] else "struct"
    return Field(name, slot.offset, slot.size, kind, False, 0, struct)
