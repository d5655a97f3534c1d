"""What plugins say of addresses outside the cluster, as labels: a service that policy provides.

Every prefix that somebody gives labels to gets an identity of this node. Its labels are the union
of what all sources say of it, the ``cidr:`` label of the longest prefix around it that a policy
names, and the world of its family. The identity's policy is in the kernel before the ipcache hands
it out, and stays for a while after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from axoneme.core.model.labels import Label

Prefix = IPv4Network | IPv6Network


class PrefixLabels(Protocol):
    """Service. All methods belong to the loop's thread."""

    def put(self, source: str, labels: Mapping[Prefix, frozenset[Label]]) -> None:
        """Say what ``source`` knows of prefixes; replaces what it said of each before.

        All or none. Raises :class:`axoneme.core.errors.ExhaustedError` when the node has no
        number left for another identity.
        """
        ...

    def drop(self, source: str, prefixes: Iterable[Prefix]) -> None:
        """Take back what ``source`` said of prefixes. Idempotent."""
        ...

    async def programmed(self) -> None:
        """Return once all that was said before the call is in the kernel, policy and ipcache."""
        ...
