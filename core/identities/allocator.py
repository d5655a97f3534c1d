"""Identities of label sets, and who uses them here.

Numbers are made by this process (:mod:`~axoneme.core.identities.maker`) or by the operator
(:mod:`~axoneme.core.identities.follower`).

An identity that is in use here and vanishes from the store (an operator that did not see us) is
created again under the same number by whoever makes them; one that is marked as unused is
unmarked. A number that has gone to other labels meanwhile is lost: its users are told and ask for
another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection
from typing import Protocol

from axoneme.core.errors import AxonemeError
from axoneme.core.identities.local import LocalIdentities
from axoneme.core.identities.objects import UNUSED_ANNOTATION, decode_identity
from axoneme.core.identities.reserved import reserved_by_labels
from axoneme.core.identities.table import known_number
from axoneme.core.locks import KeyedLocks
from axoneme.core.model.identity import Identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ClusterObject
from axoneme.core.state import Changes, Table

log = logging.getLogger(__name__)


class Numbers(Protocol):
    """Where numbers come from: made here, or followed."""

    follows: bool
    """Whether somebody else makes them."""

    @property
    def waiting(self) -> Collection[LabelSet]:
        """Label sets that somebody else has to make a number for, now."""
        ...

    def note(self, number: int, *, unused: bool) -> bool:
        """Hear of the operator's mark on an object; true if a user has to take it away."""
        ...

    def away(self) -> str:
        """Why the store cannot be asked; empty if it can."""
        ...

    def owes(self, number: int) -> bool:
        """Whether a mark has not been taken away that a user has to take away."""
        ...

    async def number_of(self, labels: LabelSet) -> int:
        """The number of ``labels``; a ``RetryableError`` when there is none now."""
        ...

    async def keep(self, number: int, labels: LabelSet) -> bool:
        """See that a number in use stays; false if it stands for other labels now."""
        ...


class IdentityAllocator:
    """Gives numbers to label sets and to prefixes, counts who uses them."""

    def __init__(self, table: Table[int, Identity], numbers: Numbers) -> None:
        self.table = table
        self.local = LocalIdentities(table)
        self.numbers = numbers
        self._users: Counter[int] = Counter()
        self._mine: dict[int, LabelSet] = {}
        self._locks = KeyedLocks()
        self._lost: list[Callable[[int], None]] = []
        self._repairs: dict[asyncio.Task[None], int] = {}
        table.subscribe(self._watch)

    # What endpoints ask

    async def allocate(self, labels: LabelSet) -> int:
        """The number of ``labels``, made or waited for; counts one user.

        Raises ``ExhaustedError`` when the cluster has no number left, ``StoreError`` when the
        store cannot be asked and ``NotReadyError`` when the operator makes none; all may be tried
        again.
        """
        reserved = reserved_by_labels(labels)
        if reserved is not None:
            return reserved
        if self.numbers.follows:  # who only waits need not wait for others that do
            return self._use(await self.numbers.number_of(labels), labels)
        async with self._locks.hold(labels):
            return self._use(await self.numbers.number_of(labels), labels)

    def adopt(self, number: int, labels: LabelSet) -> bool:
        """Count a user of a number that it has had before, when :meth:`allocate` has failed.

        It is confirmed, or found to be lost, once that can be. False if the number is known to
        stand for other labels, or if this process could make one: then only :meth:`allocate` tells.
        """
        if not number or not self.stands_for(number, labels):
            return False
        if not (self.numbers.away() or self.numbers.follows):
            return False
        self._use(number, labels)
        if self.table.get(number) is None:
            self.table.upsert(Identity(number, labels))
        self._repair(number)
        return True

    def release(self, number: int) -> None:
        """One user less. The object stays: the operator removes what no node uses."""
        if number not in self._mine:
            return
        self._users[number] -= 1
        if self._users[number] <= 0:
            del self._users[number]
            del self._mine[number]
            if self.numbers.follows:  # nobody waits for it any more
                for task in [t for t, n in self._repairs.items() if n == number]:
                    task.cancel()

    def lookup(self, labels: LabelSet) -> int | None:
        """The number of ``labels`` if there is one; counts nothing."""
        reserved = reserved_by_labels(labels)
        return reserved if reserved is not None else known_number(self.table, labels)

    def labels_of(self, number: int) -> LabelSet | None:
        """The labels behind a number."""
        row = self.table.get(number)
        return row.labels if row else None

    def stands_for(self, number: int, labels: LabelSet) -> bool:
        """Whether nothing speaks against it that ``number`` is the number of ``labels``."""
        row = self.table.get(number)
        if row is None:  # one of ours is made again with its number; others may choose another
            return not self.numbers.follows or known_number(self.table, labels) is None
        return row.source != "store" or row.labels == labels

    def on_lost(self, listener: Callable[[int], None]) -> None:
        """Call ``listener`` with a number in use that has gone to other labels, perhaps twice."""
        self._lost.append(listener)

    @property
    def in_use(self) -> set[int]:
        """Cluster-wide identities that endpoints of this node use."""
        return set(self._mine)

    # What policies ask

    def allocate_local(self, labels: LabelSet) -> int:
        """This node's number of what is outside the cluster; counts one user."""
        return self.local.allocate(labels)

    def release_local(self, number: int) -> bool:
        """One user less; true when the number is free now."""
        return self.local.release(number)

    # From the store

    def decode(self, obj: ClusterObject) -> Identity:
        """Decoder for the reflector of CiliumIdentity; notes the operator's marks as well."""
        row = decode_identity(obj)
        marked = self.numbers.note(row.id, unused=UNUSED_ANNOTATION in obj.annotations)
        if marked and row.id in self._mine:
            self._repair(row.id)
        return row

    async def close(self) -> None:
        """Wait for repairs under way, but not for a store that is away, nor for others' work."""
        for task in self._repairs if self.numbers.follows or self.numbers.away() else ():
            task.cancel()
        await asyncio.gather(*self._repairs, return_exceptions=True)

    # Inside

    def _use(self, number: int, labels: LabelSet) -> int:
        """Count one user. Those that have the number for other labels are told first."""
        if self._mine.get(number, labels) != labels:
            self._tell(number)
        self._users[number] += 1
        self._mine[number] = labels
        if self.numbers.owes(number):  # the store could not be asked to take the mark away
            self._repair(number)
        return number

    def _tell(self, number: int) -> None:
        log.error("identity lost to other labels", extra={"identity": number})
        for listener in self._lost:
            listener(number)

    def _watch(self, changes: Changes[int, Identity]) -> None:
        for number in self._mine.keys() & changes.deleted.keys():
            self._repair(number)
        for number in self._mine.keys() & changes.upserted.keys():
            if changes.upserted[number].labels != self._mine[number]:
                self._repair(number)

    def _repair(self, number: int) -> None:
        task = asyncio.get_running_loop().create_task(self._restore(number))
        self._repairs[task] = number
        task.add_done_callback(self._repairs.pop)

    async def _restore(self, number: int) -> None:
        labels = self._mine.get(number)
        delay = 0.2
        while labels is not None and number in self._mine:
            try:
                if await self.numbers.keep(number, labels):
                    self.table.upsert(Identity(number, labels))
                elif not self.stands_for(number, labels):
                    self._tell(number)
                return
            except AxonemeError as error:
                log.warning(
                    "identity in use could not be restored",
                    extra={"identity": number, "error": str(error)},
                )
                await asyncio.sleep(delay)
                delay = min(30.0, delay * 2)
