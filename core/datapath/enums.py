"""Enumerations from X-macro headers: one list of numbers for C and Python.

A header writes ``AXO_DROP(133, POLICY, "policy denied")``, one entry a line; C expands the macro
to an enum, and this module reads the same lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import frozen

from axoneme.core.errors import DatapathError

_ENTRY: Final = re.compile(
    r"^\s*(?P<macro>[A-Z]\w*)\(\s*(?P<number>\d+|0x[0-9a-fA-F]+)\s*,\s*(?P<name>\w+)\s*"
    r'(?:,\s*"(?P<text>[^"]*)"\s*)?\)\s*\\?\s*(?:/[*/].*)?$',
    re.M,
)


@frozen
class Entry:
    """One number. ``text`` is for people."""

    number: int
    name: str
    text: str = ""


class EnumTable(dict[int, Entry]):
    """Entries by number; ``by_name`` the other way round."""

    @property
    def by_name(self) -> dict[str, int]:
        """Number by name."""
        return {entry.name: number for number, entry in self.items()}

    def text(self, number: int) -> str:
        """Text of a number, also of one that the header does not have."""
        entry = self.get(number)
        return (entry.text or entry.name) if entry else f"unknown ({number})"


def read_enums(path: Path) -> dict[str, EnumTable]:
    """The enumerations of a header, by the name of their macro."""
    tables: dict[str, EnumTable] = {}
    for found in _ENTRY.finditer(path.read_text()):
        table = tables.setdefault(found["macro"], EnumTable())
        number = int(found["number"], 0)
        if number in table:
            both = f"{table[number].name} and {found['name']}"
            raise DatapathError(f"{path}: {found['macro']} {number} is both {both}")
        table[number] = Entry(number, found["name"], found["text"] or "")
    return tables


def find_enum(include_dirs: Iterable[Path], macro: str) -> EnumTable:
    """The enumeration of a macro (``AXO_DROP``), from the headers of the folders."""
    for folder in include_dirs:
        for header in sorted(folder.rglob("*.h")):
            found = read_enums(header).get(macro)
            if found:
                return found
    raise DatapathError(f"no header defines the enumeration {macro}")
