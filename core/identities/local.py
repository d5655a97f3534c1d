"""Identities of prefixes outside the cluster: numbers that mean something on this node only.

A number is derived from its prefix by a hash, so that a restarted agent gives the same one and
the pinned maps keep telling the truth; the rare collision takes the next free number.
"""

from __future__ import annotations

import zlib
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from axoneme.core.errors import ExhaustedError
from axoneme.core.identities.reserved import cidr_labels
from axoneme.core.model.identity import LOCAL_SCOPE, Identity
from axoneme.core.state import Table

Prefix = IPv4Network | IPv6Network

_SPAN: Final = (1 << 24) - 1
MAX_LOCAL: Final = 65536
"""Local identities at a time; a policy that lists more prefixes is refused, not truncated."""


class LocalIdentities:
    """Numbers by prefix, counted by user. Lives on the loop's thread."""

    def __init__(self, table: Table[int, Identity], *, dual_stack: bool) -> None:
        self._table = table
        self._dual_stack = dual_stack
        self._numbers: dict[Prefix, int] = {}
        self._users: dict[Prefix, int] = {}
        self._taken: set[int] = set()

    def allocate(self, prefix: Prefix) -> int:
        """The number of ``prefix``; each call counts as one user."""
        if prefix not in self._numbers:
            self._create(prefix)
        self._users[prefix] = self._users.get(prefix, 0) + 1
        return self._numbers[prefix]

    def release(self, prefix: Prefix) -> bool:
        """One user less; true when that was the last one and the number is free."""
        users = self._users.get(prefix, 0)
        if users > 1:
            self._users[prefix] = users - 1
            return False
        self._users.pop(prefix, None)
        number = self._numbers.pop(prefix, None)
        if number is None:
            return False
        self._taken.discard(number)
        self._table.delete(number)
        return True

    def lookup(self, prefix: Prefix) -> int | None:
        """The number of ``prefix`` if it has one."""
        return self._numbers.get(prefix)

    def _create(self, prefix: Prefix) -> None:
        if len(self._taken) >= MAX_LOCAL:
            raise ExhaustedError(
                f"no local identity left for {prefix}: {MAX_LOCAL} are in use",
                hint="name fewer prefixes in policies",
            )
        offset = zlib.crc32(str(prefix).encode()) % _SPAN
        while LOCAL_SCOPE + 1 + offset in self._taken:
            offset = (offset + 1) % _SPAN
        number = LOCAL_SCOPE + 1 + offset
        self._taken.add(number)
        self._numbers[prefix] = number
        labels = cidr_labels(prefix, dual_stack=self._dual_stack)
        self._table.upsert(Identity(number, labels, "cidr"))
