"""All tables of a process by name, and any of them as plain data for ``axoneme state``."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any, TypeVar

import attrs

from axoneme.core.errors import AxonemeError, NotFoundError
from axoneme.core.state.table import Index, Table
from axoneme.core.text import nearest

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

_ADDRESSES = (IPv4Address, IPv6Address, IPv4Network, IPv6Network, IPv4Interface, IPv6Interface)


class TableRegistry:
    """Tables by name. Names are plural nouns, unique in the process."""

    def __init__(self) -> None:
        self._tables: dict[str, Table[Any, Any]] = {}

    def add(self, table: Table[K, R]) -> Table[K, R]:
        """Register a table; a name that is taken is an error."""
        if table.name in self._tables:
            raise AxonemeError(f"table {table.name} exists already")
        self._tables[table.name] = table
        return table

    def create(
        self,
        name: str,
        row_type: type[R],
        key: Callable[[R], K],
        indexes: Mapping[str, Index[R]] | None = None,
    ) -> Table[K, R]:
        """Make and register a table."""
        return self.add(Table(name, row_type, key, indexes))

    def __getitem__(self, name: str) -> Table[Any, Any]:
        try:
            return self._tables[name]
        except KeyError:
            near = nearest(name, self._tables)
            hint = f"did you mean {near}?" if near else f"tables: {', '.join(self.names())}"
            raise NotFoundError(f"no table {name!r}", hint=hint) from None

    def __contains__(self, name: object) -> bool:
        return name in self._tables

    def __iter__(self) -> Iterator[Table[Any, Any]]:
        return iter(self._tables.values())

    def names(self) -> list[str]:
        """Sorted names."""
        return sorted(self._tables)

    def rows_as_dicts(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table as JSON-able dicts, column by column."""
        return [plain(row) for row in self[name].rows()]


def plain(value: Any) -> Any:
    """Turn rows, addresses, enums and collections into what JSON can hold."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, _ADDRESSES):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if attrs.has(type(value)):
        texts = getattr(value, "texts", None)
        if callable(texts):
            return texts()
        return {a.name: plain(getattr(value, a.name)) for a in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    return str(value)
