"""Which names stand for which addresses, as each endpoint was told.

An address lives as long as the longest answer that gave it, and at least ``min_ttl``; after that it
stays while a connection of the endpoint to it is alive. Per endpoint and name there are at most
``limit`` addresses; the one that ends first makes room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from axoneme.plugins.fqdn.sockets import Address

Entry = tuple[str, str]
"""Address of the endpoint, canonical name."""


class NameCache:
    """Times are seconds of any clock that does not jump back."""

    def __init__(self, *, limit: int, min_ttl: float = 0.0) -> None:
        self.limit, self.min_ttl = limit, min_ttl
        self._entries: dict[Entry, dict[Address, float]] = {}
        self._names: dict[Address, Counter[str]] = {}

    def add(
        self, client: str, name: str, answers: Iterable[tuple[Address, float]], now: float
    ) -> set[Address]:
        """Note an answer; returns the addresses whose names have changed."""
        held = self._entries.setdefault((client, name), {})
        changed: set[Address] = set()
        for address, ttl in answers:
            until = now + max(ttl, self.min_ttl)
            if address not in held:
                self._names.setdefault(address, Counter())[name] += 1
                changed.add(address)
            held[address] = max(until, held.get(address, 0.0))
        while len(held) > self.limit:
            changed |= self._drop((client, name), min(held, key=lambda a: held[a]))
        if not held:
            self._entries.pop((client, name), None)
        return changed

    def expired(self, now: float) -> list[tuple[str, Address]]:
        """Endpoints and addresses that some name has given up."""
        return [
            (client, address)
            for (client, _), held in self._entries.items()
            for address, until in held.items()
            if until <= now
        ]

    def collect(self, now: float, alive: set[tuple[str, Address]]) -> set[Address]:
        """Forget what has expired and is not ``alive``; the addresses whose names have changed."""
        changed: set[Address] = set()
        for entry in list(self._entries):
            held = self._entries[entry]
            for address in [a for a, until in held.items() if until <= now]:
                if (entry[0], address) not in alive:
                    changed |= self._drop(entry, address)
        return changed

    def forget(self, clients: Iterable[str] | None = None) -> set[Address]:
        """Forget all that some endpoints were told, or all; the addresses that this is about."""
        gone = None if clients is None else set(clients)
        changed: set[Address] = set()
        for entry in [e for e in self._entries if gone is None or e[0] in gone]:
            for address in list(self._entries[entry]):
                changed |= self._drop(entry, address)
        return changed

    def _drop(self, entry: Entry, address: Address) -> set[Address]:
        held = self._entries[entry]
        del held[address]
        if not held:
            del self._entries[entry]
        names = self._names[address]
        names[entry[1]] -= 1
        if names[entry[1]] <= 0:
            del names[entry[1]]
        if not names:
            del self._names[address]
        return {address}

    def names(self, address: Address) -> set[str]:
        """The names that stand for an address."""
        return set(self._names.get(address, ()))

    def addresses(self) -> list[Address]:
        """Every address that some name stands for."""
        return list(self._names)

    def rows(self) -> list[tuple[str, str, Address, float]]:
        """Endpoint, name, address and end of every entry."""
        return [
            (client, name, address, until)
            for (client, name), held in self._entries.items()
            for address, until in held.items()
        ]

    # On disk

    def dump(self) -> list[list[Any]]:
        """As JSON."""
        return [[c, n, str(a), until] for c, n, a, until in self.rows()]

    def load(self, rows: Any) -> None:
        """Take what :meth:`dump` gave; what cannot be read is left out."""
        for row in rows if isinstance(rows, list) else ():
            try:
                client, name, text, until = row
                address, end = ip_address(text), float(until)
            except (ValueError, TypeError):
                continue
            self.add(str(client), str(name), [(address, 0.0)], end)
