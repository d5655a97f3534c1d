"""Prefixes that rules name, as identities of this node.

Each prefix, exceptions included, gets an identity, so that whether an address is selected is a
question about identities alone. The order of a change never opens or closes more than it should:
a new identity has its entries in the kernel before the ipcache hands it out, and one that is not
needed any more leaves the ipcache well before its entries go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

from axoneme.plugins.policy.prefixes import EVERY_IPV4, EVERY_IPV6
from axoneme.plugins.policy.selectors import Prefix

log = logging.getLogger(__name__)

SOURCE: Final = "cidr"
LINGER: Final = 2.0
"""Seconds between a prefix's leaving the ipcache table and the end of its identity."""


class Identities(Protocol):
    """What is needed of the identity allocator."""

    def allocate_cidr(self, prefix: Prefix) -> int:
        """The number of a prefix."""
        ...

    def release_cidr(self, prefix: Prefix) -> bool:
        """One user less."""
        ...


class Addresses(Protocol):
    """What is needed of the ipcache."""

    def upsert(self, prefix: Prefix, identity: int, *, source: str) -> None:
        """Give a prefix an identity."""
        ...

    def delete(self, prefix: Prefix, source: str) -> None:
        """Take it back."""
        ...


class CidrIdentities:
    """Counts who names which prefix, and keeps identities and ipcache in step."""

    def __init__(
        self,
        identities: Identities,
        addresses: Addresses,
        realised: Callable[[], Awaitable[object]],
    ) -> None:
        self._identities = identities
        self._addresses = addresses
        self._realised = realised
        self._users: Counter[Prefix] = Counter()
        self._numbers: dict[Prefix, int] = {}
        self._waiting: dict[Prefix, None] = {}
        self._leaving: dict[Prefix, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self.live = False
        """Set once the kernel follows: until then the ipcache is told at once, so that a restart
        finds what the pinned map holds."""

    def acquire(self, prefixes: Iterable[Prefix]) -> None:
        """Count one user of each prefix; all or none.

        Raises :class:`axoneme.core.errors.ExhaustedError` when the node has no number left.
        """
        done: list[Prefix] = []
        try:
            for prefix in prefixes:
                self._acquire(prefix)
                done.append(prefix)
        except Exception:
            self.release(done)
            raise

    def release(self, prefixes: Iterable[Prefix]) -> None:
        """One user of each prefix less."""
        for prefix in prefixes:
            self._users[prefix] -= 1
            if self._users[prefix] > 0:
                continue
            del self._users[prefix]
            if prefix in (EVERY_IPV4, EVERY_IPV6):
                continue
            self._waiting.pop(prefix, None)
            self._addresses.delete(prefix, SOURCE)
            loop = asyncio.get_running_loop()
            self._leaving[prefix] = loop.call_later(LINGER, self._end, prefix)

    def number(self, prefix: Prefix) -> int | None:
        """The identity of a prefix in use."""
        return self._numbers.get(prefix)

    def __len__(self) -> int:
        return len(self._numbers)

    async def run(self) -> None:
        """Hand new prefixes to the ipcache once their entries are in the kernel."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, {}
            await self._realised()
            for prefix in waiting:
                if prefix in self._users:
                    self._addresses.upsert(prefix, self._numbers[prefix], source=SOURCE)

    def _acquire(self, prefix: Prefix) -> None:
        # Everything is the world, which has its identity and its default entry already.
        if prefix not in (EVERY_IPV4, EVERY_IPV6) and not self._users[prefix]:
            leaving = self._leaving.pop(prefix, None)
            if leaving is not None:
                leaving.cancel()
            else:
                self._numbers[prefix] = self._identities.allocate_cidr(prefix)
            if self.live:
                self._waiting[prefix] = None
                self._wake.set()
            else:
                self._addresses.upsert(prefix, self._numbers[prefix], source=SOURCE)
        self._users[prefix] += 1

    def _end(self, prefix: Prefix) -> None:
        del self._leaving[prefix], self._numbers[prefix]
        self._identities.release_cidr(prefix)
