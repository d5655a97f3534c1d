"""From an endpoint to the rows that program it, and the wait until they are in the kernel.

The order inside the kernel does not matter for safety: until the policy of the identity is there
the programs drop, and the pod's end is down anyway. What matters is that nothing is reported as
done before all of it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from attrs import define

from axoneme.core.datapath.attachments import Attachment
from axoneme.core.endpoints.policy import PolicyGate
from axoneme.core.endpoints.tables import (
    EndpointAddress,
    EndpointInterface,
    address_rows,
    interface_row,
)
from axoneme.core.errors import DatapathError
from axoneme.core.ipcache.ipcache import Ipcache, host_prefix
from axoneme.core.model.endpoint import Endpoint
from axoneme.core.reconcile import Reconciler
from axoneme.core.state import Table

Address = IPv4Address | IPv6Address

FROM_POD = ("tc-ingress", "from_container")
TO_POD = ("tc-egress", "to_container")


@define
class Realizer:
    """Writes rows and waits. The reconcilers are set once the datapath is there."""

    addresses: Table[Address, EndpointAddress]
    interfaces: Table[int, EndpointInterface]
    attachments: Table[Any, Attachment]
    ipcache: Ipcache
    gate: Callable[[], PolicyGate | None]
    reconcilers: tuple[Reconciler[Any, Any], ...] = ()
    timeout: float = 20.0
    """Seconds until an endpoint that is not in the kernel counts as failed."""

    def write(self, endpoint: Endpoint) -> None:
        """Put or replace all rows of an endpoint. No waiting."""
        for row in address_rows(endpoint):
            self.addresses.upsert(row)
            self.ipcache.upsert(host_prefix(row.address), endpoint.identity, source="local")
        self.interfaces.upsert(interface_row(endpoint))
        for hook, program in (FROM_POD, TO_POD):
            self.attachments.upsert(
                Attachment(endpoint.ifindex, endpoint.ifname, hook, program, classic=True)
            )

    async def cut(self, endpoint: Endpoint) -> bool:
        """Take an endpoint out of the maps, so that programs drop what it sends or gets.

        True once that is in force; its programs stay attached, for they do the dropping.
        """
        self._erase_maps(endpoint)
        try:
            async with asyncio.timeout(self.timeout):
                failures = await self._applied()
        except TimeoutError:
            return False
        ours = self._keys(endpoint)
        return not any(key in ours for errors in failures for key in errors)

    def erase(self, endpoint: Endpoint) -> None:
        """Take all rows of an endpoint away."""
        self._erase_maps(endpoint)
        if endpoint.ifindex and self.interfaces.get(endpoint.ifindex) is None:
            for attached in self.attachments.rows():
                if attached.ifindex == endpoint.ifindex:
                    self.attachments.delete(attached.key)

    def _erase_maps(self, endpoint: Endpoint) -> None:
        for row in address_rows(endpoint):
            present = self.addresses.get(row.address)
            if present is not None and present.id == endpoint.id:
                self.addresses.delete(row.address)
                self.ipcache.delete(host_prefix(row.address), "local")
        present_interface = self.interfaces.get(endpoint.ifindex)
        if present_interface is not None and present_interface.id == endpoint.id:
            self.interfaces.delete(endpoint.ifindex)

    async def settle(self, endpoint: Endpoint) -> int:
        """Wait until the rows and the identity's policy are in force; the policy's revision."""
        try:
            async with asyncio.timeout(self.timeout):
                results = await asyncio.gather(self.policy(endpoint.identity), self._applied())
        except TimeoutError:
            raise DatapathError(
                f"endpoint {endpoint.name}: not programmed within {self.timeout:.0f} s"
            ) from None
        self._raise_for(endpoint, results[1])
        revision: int = results[0]
        return revision

    async def policy(self, identity: int) -> int:
        """Wait for the policy of an identity; 0 without a policy plugin."""
        gate = self.gate()
        return await gate.wait_for(identity) if gate is not None else 0

    async def _applied(self) -> list[Mapping[Any, str]]:
        return list(await asyncio.gather(*(r.sync() for r in self.reconcilers)))

    def _raise_for(self, endpoint: Endpoint, failures: list[Any]) -> None:
        ours = self._keys(endpoint)
        for errors in failures:
            for key, message in errors.items():
                if key in ours:
                    raise DatapathError(f"endpoint {endpoint.name}: {message}")

    @staticmethod
    def _keys(endpoint: Endpoint) -> set[Hashable]:
        """Keys of an endpoint's rows in all tables."""
        ours: set[Hashable] = {endpoint.ifindex}
        for row in address_rows(endpoint):
            ours |= {row.address, host_prefix(row.address)}
        return ours | {(endpoint.ifindex, FROM_POD[0]), (endpoint.ifindex, TO_POD[0])}
