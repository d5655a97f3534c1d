"""Statuses that tasks of the operator write: addresses of services, and whatever else follows.

``ingress`` has no owner field, so ownership is told by form: an entry with an address and ``ipMode:
VIP`` on a service that carries the condition of who writes is that writer's, and so is every
address that it says it gives out. All other entries, host names among them, belong to
somebody else and stay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError
from axoneme.core.model.conditions import (
    Condition,
    has_condition,
    with_condition,
    without_condition,
)
from axoneme.core.model.objects import ObjectKey
from axoneme.core.operator.balancers import Address, BalancerService, address_of, ingress_of
from axoneme.core.store.model import Store

log = logging.getLogger(__name__)

BATCH: Final = 64
"""Writes after which to see what has changed meanwhile."""
MOST: Final = 1000
"""Objects of the backlog to look at before that."""
RETRY_SECONDS: Final = 5.0

Desired = Callable[[ObjectKey], tuple[Mapping[str, Any], Mapping[str, Any], str] | None]
"""The status that is there, the one that is wanted, and the version of the object."""


def own_addresses(row: BalancerService, condition: str) -> tuple[Address, ...]:
    """Addresses that whoever writes ``condition`` has given to a service."""
    if not has_condition(row.status, condition):
        return ()
    found = (address_of(e) for e in ingress_of(row.status) if e.get("ipMode") == "VIP")
    return tuple(a for a in found if a is not None)


def with_addresses(
    row: BalancerService,
    addresses: Iterable[Address],
    condition: Condition,
    owned: Callable[[Address], bool],
) -> dict[str, Any]:
    """The status with these addresses of ours, in place of what was ours before."""
    status = with_condition(row.status, condition)
    return _with_ingress(row, status, condition.type, list(addresses), owned)


def without_addresses(
    row: BalancerService, condition: str, owned: Callable[[Address], bool]
) -> dict[str, Any]:
    """The status without what is ours; nothing is ours where the condition is missing."""
    if not has_condition(row.status, condition):
        return dict(row.status)
    status = without_condition(row.status, condition)
    return _with_ingress(row, status, condition, [], owned)


def _with_ingress(
    row: BalancerService,
    status: dict[str, Any],
    condition: str,
    addresses: list[Address],
    owned: Callable[[Address], bool],
) -> dict[str, Any]:
    given = own_addresses(row, condition)
    entries: list[Mapping[str, Any]] = []
    missing = dict.fromkeys(addresses)
    for entry in ingress_of(row.status):
        address = address_of(entry)
        if address is not None and address in missing:
            del missing[address]
            entries.append(_entry(address))
        elif address is None or not (address in given or owned(address)):
            entries.append(entry)
    entries += [_entry(address) for address in missing]
    if entries == ingress_of(row.status):
        return status
    return {**status, "loadBalancer": {"ingress": entries} if entries else {}}


def _entry(address: Address) -> dict[str, str]:
    return {"ip": str(address), "ipMode": "VIP"}


class StatusQueue:
    """Objects whose status may be out of date; written a few at a time.

    A write names the version that was read. When that is stale the newer one is on its way
    here, and brings the object back into the queue. A few objects that change do not wait behind
    thousands: those are the backlog.
    """

    def __init__(self, store: Store, desired: Desired) -> None:
        self._store = store
        self._desired = desired
        self._urgent: dict[ObjectKey, None] = {}
        self._backlog: dict[ObjectKey, None] = {}
        self.failed: dict[ObjectKey, str] = {}
        """What could not be written, and why."""

    def add(self, keys: Iterable[ObjectKey]) -> None:
        """Look at these objects, in this order."""
        more = dict.fromkeys(keys)
        (self._urgent if len(more) <= BATCH else self._backlog).update(more)

    def retry(self) -> None:
        """Look again at what could not be written."""
        self.add(self.failed)

    def __bool__(self) -> bool:
        return bool(self._urgent or self._backlog)

    async def work(self) -> None:
        """Write the next few."""
        written = 0
        for key in [*self._urgent, *islice(self._backlog, MOST)]:
            self._urgent.pop(key, None)
            self._backlog.pop(key, None)
            self.failed.pop(key, None)
            found = self._desired(key)
            if found is not None and dict(found[0]) != dict(found[1]):
                await self._write(key, found[1], found[2])
                written += 1
                if written == BATCH:
                    return

    async def _write(self, key: ObjectKey, status: Mapping[str, Any], version: str) -> None:
        try:
            await self._store.update_status(key, status, version)
        except (ConflictError, NotFoundError):
            return
        except AxonemeError as error:
            log.warning("status not written", extra={"object": str(key), "error": str(error)})
            self.failed[key] = str(error)
