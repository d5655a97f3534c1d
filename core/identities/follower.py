"""Identities that the operator makes: this process waits for them.

For ``identity-management-mode: operator``. An agent needs no right to create or to change
CiliumIdentities then; it learns a new label set's number from its watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from axoneme.core.errors import NotReadyError
from axoneme.core.identities.table import known_number
from axoneme.core.model.identity import Identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.state import Table

PATIENCE: Final = 10.0
"""Seconds that one call waits for the operator. An ADD that fails is tried again by its runtime."""


class IdentityFollower:
    """Makes nothing; a :class:`~axoneme.core.identities.allocator.Numbers`."""

    follows = True

    def __init__(
        self,
        table: Table[int, Identity],
        away: Callable[[], str] = lambda: "",
        *,
        patience: float = PATIENCE,
    ) -> None:
        """``away`` says why the store cannot be heard, if it cannot."""
        self.table = table
        self.away = away
        self._patience = patience
        self._callers: dict[LabelSet, int] = {}

    @property
    def waiting(self) -> Collection[LabelSet]:
        """Label sets that are waited for now."""
        return self._callers.keys()

    def note(self, number: int, *, unused: bool) -> bool:
        """The operator looks after its own marks."""
        return False

    def owes(self, number: int) -> bool:
        """Nothing."""
        return False

    async def number_of(self, labels: LabelSet) -> int:
        """The number of ``labels``; ``NotReadyError`` when none comes within the patience."""
        if known_number(self.table, labels) is None and (away := self.away()):
            names = " ".join(labels.texts())
            raise NotReadyError(
                f"no identity is known for {names}, and {away}", hint="try again when it is back"
            )
        try:
            async with asyncio.timeout(self._patience):
                return await self._arrival(labels)
        except TimeoutError:
            raise NotReadyError(
                f"the operator has made no identity for {' '.join(labels.texts())}",
                hint="identity-management-mode is operator: does one lead, and read the same"
                " keys labels and cluster-name?",
            ) from None

    async def keep(self, number: int, labels: LabelSet) -> bool:
        """Whether a number in use stands for ``labels``; waits as long as nothing does."""
        if self._other(number, labels):
            return False
        await self._arrival(labels)
        row = self.table.get(number)
        return row is not None and row.labels == labels

    async def _arrival(self, labels: LabelSet) -> int:
        known = known_number(self.table, labels)
        if known is not None:
            return known
        woken = asyncio.Event()
        stop = self.table.subscribe(lambda _: woken.set())
        self._callers[labels] = self._callers.get(labels, 0) + 1
        try:
            while (known := known_number(self.table, labels)) is None:
                await woken.wait()
                woken.clear()
            return known
        finally:
            stop()
            self._callers[labels] -= 1
            if not self._callers[labels]:
                del self._callers[labels]

    def _other(self, number: int, labels: LabelSet) -> bool:
        row = self.table.get(number)
        return row is not None and row.labels != labels
