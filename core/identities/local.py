"""Identities that mean something on this node only: prefixes outside the cluster, and nodes.

A number is derived from its labels by a hash, so that a restarted agent gives the same one and
the pinned maps keep telling the truth; the rare collision takes the next free number.
"""

from __future__ import annotations

import zlib
from collections import Counter
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from axoneme.core.errors import ExhaustedError
from axoneme.core.model.identity import LOCAL_SCOPE, Identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.state import Table

Prefix = IPv4Network | IPv6Network

_SPAN: Final = (1 << 24) - 1
MAX_LOCAL: Final = 65536
"""Identities of one scope at a time; a policy that needs more is refused, not truncated."""


class LocalIdentities:
    """Numbers of one ``scope`` (the top byte) by label set, counted by user. Loop's thread only."""

    def __init__(
        self, table: Table[int, Identity], *, scope: int = LOCAL_SCOPE, source: str = "cidr"
    ) -> None:
        self._table = table
        self._scope = scope
        self._source = source
        self._numbers: dict[LabelSet, int] = {}
        self._labels: dict[int, LabelSet] = {}
        self._users: Counter[int] = Counter()

    def allocate(self, labels: LabelSet) -> int:
        """The number of ``labels``; each call counts as one user.

        Raises ``ExhaustedError`` when there is none left.
        """
        number = self._numbers.get(labels)
        if number is None:
            number = self._create(labels)
        self._users[number] += 1
        return number

    def release(self, number: int) -> bool:
        """One user less; true when that was the last one and the number is free."""
        if self._users[number] > 1:
            self._users[number] -= 1
            return False
        del self._users[number]
        labels = self._labels.pop(number, None)
        if labels is None:
            return False
        del self._numbers[labels]
        self._table.delete(number)
        return True

    def lookup(self, labels: LabelSet) -> int | None:
        """The number of ``labels`` if they have one."""
        return self._numbers.get(labels)

    def _create(self, labels: LabelSet) -> int:
        if len(self._labels) >= MAX_LOCAL:
            raise ExhaustedError(
                f"no local identity left for {' '.join(labels.texts())}: {MAX_LOCAL} are in use",
                hint="name fewer prefixes in policies",
            )
        offset = zlib.crc32(labels.key_string().encode()) % _SPAN
        while self._scope + 1 + offset in self._labels:
            offset = (offset + 1) % _SPAN
        number = self._scope + 1 + offset
        self._numbers[labels] = number
        self._labels[number] = labels
        self._table.upsert(Identity(number, labels, self._source))
        return number
