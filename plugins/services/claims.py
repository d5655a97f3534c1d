"""The operator's task: who asks for an address and port that an older service has is told so.

Agents decide alike, each for itself: of two services with one frontend the older has it. Only one
may write that into a status, so the leading operator does: the condition ``FrontendConflict``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

from axoneme.core.model.balancing import ServiceName
from axoneme.core.model.conditions import Condition, with_condition, without_condition
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.operator.statuses import RETRY_SECONDS, StatusQueue
from axoneme.core.state import Table
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.services.decode import decode_service, is_served
from axoneme.plugins.services.rows import Service

if TYPE_CHECKING:
    from axoneme.core.operator import Operator

CONFLICT: Final = "axoneme.io/FrontendConflict"
PROTOCOLS: Final = {6: "TCP", 17: "UDP", 132: "SCTP"}
NODE_PORT: Final = "node port"

Place = tuple[str, int, int]
"""Address (or ``NODE_PORT``), port, protocol."""
Rank = tuple[str, str, str]
"""The smaller one is older."""


@frozen
class Claim:
    """Row of table ``service_claims``. Key: ``name``."""

    name: ServiceName
    rank: Rank
    places: frozenset[Place] = frozenset()
    status: Mapping[str, Any] = field(factory=dict, hash=False)
    version: str = ""


def decode_claim(obj: ClusterObject, proxy_name: str) -> Claim | None:
    """What a Service asks for; one that others serve asks for nothing."""
    name = (obj.key.namespace, obj.key.name)
    claim = partial(Claim, name=name, status=obj.status, version=obj.resource_version)
    if not is_served(obj, proxy_name):
        return claim(rank=("~", *name))
    row = decode_service(obj)
    return claim_of(row, status=obj.status, version=obj.resource_version)


def claim_of(row: Service, **fields: Any) -> Claim:
    """What a service that we serve asks for."""
    return Claim(row.name, (row.created, *row.name), places(row), **fields)


def places(row: Service) -> frozenset[Place]:
    """The frontends that a service has of its own."""
    addresses = (*row.cluster_ips, *row.external_ips, *row.balancer_ips)
    found = {(str(a), p.port, p.proto) for a in addresses for p in row.ports}
    found |= {(NODE_PORT, p.node_port, p.proto) for p in row.ports if p.node_port}
    return frozenset(found)


def show(place: Place) -> str:
    """``203.0.113.7:80/TCP``."""
    address, port, proto = place
    address = f"[{address}]" if ":" in address else address
    text = f"{address} {port}" if address == NODE_PORT else f"{address}:{port}"
    return f"{text}/{PROTOCOLS.get(proto, proto)}"


def claims_table() -> Table[ServiceName, Claim]:
    """An empty one."""
    return Table(
        "service_claims", Claim, key=lambda r: r.name, indexes={"place": lambda r: list(r.places)}
    )


def taken(claims: Table[ServiceName, Claim], row: Claim) -> dict[Place, ServiceName]:
    """What a service asks for and others have, with their names."""
    found = {}
    for place in row.places:
        winner = min(claims.find("place", place), key=lambda r: r.rank)
        if winner.name != row.name:
            found[place] = winner.name
    return found


class FrontendClaims:
    """Conflicts of one operator."""

    def __init__(self, operator: Operator) -> None:
        self.claims = claims_table()
        operator.tables.add(self.claims)
        proxy_name = operator.config.text("k8s-service-proxy-name")
        decode = partial(decode_claim, proxy_name=proxy_name)
        reflector = Reflector(operator.store, "Service", self.claims, decode)
        operator.tasks.spawn("services: reflect Service", reflector.run)
        operator.add_task("services: conflicts", self.run)
        self._store = operator.store

    async def run(self) -> None:
        """Run while leading."""
        queue = StatusQueue(self._store, self._desired)
        await self.claims.initialized.wait()
        wake = asyncio.Event()
        undo = self.claims.subscribe(lambda _: wake.set())
        known: dict[ServiceName, frozenset[Place]] = {}
        try:
            with self.claims.watch() as watch:
                while True:
                    self._look(watch.take(), known, queue)
                    await queue.work()
                    if not queue:
                        await self._sleep(wake, queue)
                    wake.clear()
        finally:
            undo()

    def _look(
        self, changes: Any, known: dict[ServiceName, frozenset[Place]], queue: StatusQueue
    ) -> None:
        """Whoever changed, and whoever asks for what they asked, or ask now."""
        touched: set[ServiceName] = set(changes.upserted) | set(changes.deleted)
        for name in tuple(touched):
            row = self.claims.get(name)
            now = row.places if row is not None else frozenset()
            for place in known.pop(name, frozenset()) ^ now:
                touched.update(other.name for other in self.claims.find("place", place))
            if row is not None:
                known[name] = now
        queue.add(ObjectKey("Service", *name) for name in sorted(touched))

    @staticmethod
    async def _sleep(wake: asyncio.Event, queue: StatusQueue) -> None:
        try:
            async with asyncio.timeout(RETRY_SECONDS if queue.failed else None):
                await wake.wait()
        except TimeoutError:
            queue.retry()

    def _desired(self, key: ObjectKey) -> tuple[Mapping[str, Any], Mapping[str, Any], str] | None:
        row = self.claims.get((key.namespace, key.name))
        if row is None:
            return None
        lost = taken(self.claims, row)
        if not lost:
            return row.status, without_condition(row.status, CONFLICT), row.version
        words = [f"{show(p)} is {'/'.join(n)}'s, which is older" for p, n in sorted(lost.items())]
        more = f"; and {len(words) - 5} more" if len(words) > 5 else ""
        text = "; ".join(words[:5]) + more
        condition = Condition(CONFLICT, "True", "FrontendTaken", text)
        return row.status, with_condition(row.status, condition), row.version
