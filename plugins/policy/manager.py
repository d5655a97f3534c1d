"""The plugin at work: store, identities and endpoints in; rows, tables and statuses out.

Inputs only mark the engine; one flush per turn of the loop turns all of them into rows of table
``policy_entries``, which the reconciler programs. Nothing is published before every policy and
every identity that exists has been read once, so a restarted agent never replaces the pinned
policy by a half-read one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection
from typing import Any, Final

from axoneme.core.errors import DatapathError
from axoneme.core.model.endpoint import Endpoint
from axoneme.core.model.identity import Identity
from axoneme.core.reconcile import Reconciler
from axoneme.core.state import Changes, Table
from axoneme.plugins.policy.datapath import PolicyMaps
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.known import KnownPeers
from axoneme.plugins.policy.l7 import ProxyTables
from axoneme.plugins.policy.objects import PolicyObjects
from axoneme.plugins.policy.peers import PeerPorts
from axoneme.plugins.policy.prefixes import BOTH, facts_of
from axoneme.plugins.policy.sources import PolicySources
from axoneme.plugins.policy.subjects import Delta
from axoneme.plugins.policy.tables import PolicyTables, SubjectPolicy
from axoneme.plugins.policy.texts import publish_selectors
from axoneme.plugins.policy.timings import Timings

log = logging.getLogger(__name__)

FLUSH_MOST: Final = 5000
"""Decisions in one turn of the loop, some 20 to 50 ms: requests are served in between."""

ORPHAN_SECONDS: Final = 60.0
"""How long the policy of an identity stays after its last endpoint has another, or somebody waited
for it: longer than an endpoint takes to settle (``Realizer.timeout``)."""


class PolicyManager:
    """One per agent. Also the :class:`axoneme.core.endpoints.policy.PolicyGate`."""

    def __init__(
        self,
        engine: PolicyEngine,
        tables: PolicyTables,
        sources: PolicySources,
        maps: PolicyMaps,
        *,
        max_entries: int,
        proxies: ProxyTables,
        families: Collection[int] = BOTH,
    ) -> None:
        self.engine = engine
        self.proxies = proxies
        self.tables = tables
        self.maps = maps
        self.reconciler: Reconciler[int, SubjectPolicy] = Reconciler(
            "policy", tables.entries, maps, full_interval=900.0
        )
        self.revision = 1
        self._published = asyncio.Event()
        self.timings = Timings()
        self.objects = PolicyObjects(
            sources,
            engine,
            tables,
            proxies,
            self.timings,
            applied=self._schedule,
            ready=self._sync_identities,
        )
        self._max = max_entries
        self._families = families
        self._endpoints: dict[int, Endpoint] = {}
        self._of_identity: dict[int, set[int]] = {}
        self._waiting: Counter[int] = Counter()
        self._kept: Counter[int] = Counter()
        self._held: set[int] = set()
        self.ports = PeerPorts(engine)
        self._peer_table: Table[tuple[str, str], Any] | None = None
        self._known = KnownPeers()
        self._leaving: set[int] = set()
        self._scheduled = False
        self._live = False
        self._identities: Table[int, Identity] | None = None
        self._endpoint_table: Table[int, Endpoint] | None = None

    # Inputs

    def follow_identities(self, table: Table[int, Identity]) -> None:
        """Take every identity there is, and the changes from now on."""
        self._identities = table
        for row in table.rows():
            self._put_identity(row)
        table.subscribe(self._identities_changed)

    def follow_endpoints(self, table: Table[int, Endpoint]) -> None:
        """The subjects: identities of the endpoints here, with their named ports."""
        self._endpoint_table = table
        self._endpoints_changed(Changes(upserted=dict(table.items())))
        table.subscribe(self._endpoints_changed)

    def follow_peers(self, table: Table[tuple[str, str], Any]) -> None:
        """Named ports of every pod of the cluster, for egress rules."""
        self._peer_table = table
        self._peers_changed(Changes(upserted=dict(table.items())))
        table.subscribe(self._peers_changed)

    async def go_live(self) -> None:
        """Publish all that is known, before the reconciler's first pass sweeps what is not."""
        self._live = True
        self.timings.forget()
        self._sync_identities()
        if self._endpoint_table is not None:
            self._endpoint_table.flush()
        await self._flush_all()
        self._published.set()
        if self.objects.cidrs is not None:
            self.objects.cidrs.go_live()

    async def realised(self) -> None:
        """Return once everything known at the call is in the kernel.

        A subject that the kernel refused counts: it drops everything until a later try works.
        """
        await self._published.wait()
        self._sync_identities()
        await self._flush_all()
        await self.reconciler.sync()

    def _sync_identities(self) -> None:
        """Take up identities that were made this moment, before rules look for them."""
        if self._identities is not None:
            self._identities.flush()

    def _identities_changed(self, changes: Changes[int, Identity]) -> None:
        self._leaving.update(changes.deleted)
        for row in changes.upserted.values():
            self._put_identity(row)
        self._forget_identities()
        self._schedule()

    def _forget_identities(self) -> None:
        """Forget what is deleted, once no pod that policy has heard of carries it."""
        for identity in list(self._leaving):
            peers = self._peer_table
            if self._of_identity.get(identity) or (peers and peers.find("identity", identity)):
                continue
            self._leaving.discard(identity)
            self._known.remove(identity)
            self.engine.remove_identity(identity)
            self._schedule()

    def _put_identity(self, row: Identity) -> None:
        self.engine.upsert_identity(row.id, *facts_of(row, self._families))
        self._known.add(row.id)
        self._leaving.discard(row.id)

    def _endpoints_changed(self, changes: Changes[int, Endpoint]) -> None:
        touched: set[int] = set()
        for number in changes.deleted:
            old = self._endpoints.pop(number, None)
            self.ports.move(("", str(number)), 0, ())
            if old is not None:
                self._of_identity[old.identity].discard(number)
                touched.add(old.identity)
        for number, row in changes.upserted.items():
            old = self._endpoints.get(number)
            if old is not None and old.identity != row.identity:
                self._of_identity[old.identity].discard(number)
                touched.add(old.identity)
                self._keep(old.identity)  # the maps still name it
            self._endpoints[number] = row
            self._of_identity.setdefault(row.identity, set()).add(number)
            if old is None or (old.identity, old.named_ports) != (row.identity, row.named_ports):
                touched.add(row.identity)
                # Known here at first hand, before its object tells all nodes.
                self.ports.move(("", str(number)), row.identity, tuple(row.named_ports))
        for identity in touched - {0}:
            self._update_subject(identity)
        if self.ports.publish():
            self._schedule()
        self._forget_identities()

    def _update_subject(self, identity: int) -> None:
        members = self._of_identity.get(identity)
        if not members and self._kept[identity]:
            return  # as it was, port names too
        if members or self._waiting[identity] or identity in self._held:
            pods = [self._endpoints[n].named_ports for n in members or ()]
            self.engine.set_subject(identity, pods)
        else:
            self._of_identity.pop(identity, None)
            self.engine.remove_subject(identity)
        self._schedule()

    def _peers_changed(self, changes: Changes[tuple[str, str], Any]) -> None:
        for key in changes.deleted:
            self.ports.move(key, 0, ())
        for key, row in changes.upserted.items():
            self.ports.move(key, row.identity, tuple(row.named_ports))
        self._forget_identities()
        if self.ports.publish():
            self._schedule()

    def changed(self) -> None:
        """Compute what the engine has been told beside this manager."""
        self._schedule()

    def members(self, identity: int) -> Collection[int]:
        """Numbers of the endpoints here that have an identity."""
        return self._of_identity.get(identity, ())

    # Output

    def _schedule(self) -> None:
        if self._scheduled or not self._live:
            return
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self, first: int = 0) -> None:
        """Compute and publish; a large change in several turns of the loop, ``first`` at once."""
        self._scheduled = False
        if not self._live:
            return
        started = time.perf_counter()
        deltas = self.engine.flush(first=first, most=FLUSH_MOST)
        if deltas:
            self.timings.update(time.perf_counter() - started)
        self.revision += bool(deltas)
        known = self._known.take(complete=not self.engine.pending)
        with self.tables.entries.transaction():
            for identity, delta in deltas.items():
                self._publish(identity, delta)
            if known is not None:
                self.tables.entries.upsert(known)
        self.proxies.publish(deltas)
        publish_selectors(self.engine.selectors, self.tables.selectors)
        if self.engine.pending:
            self._schedule()
        else:
            self.timings.published(self.reconciler, self.tables.entries.revision)

    async def _flush_all(self) -> None:
        """Flush until nothing is left to compute; other work runs in between."""
        self._flush()
        while self.engine.pending:
            await asyncio.sleep(0)
            self._flush()

    def _publish(self, identity: int, delta: Delta) -> None:
        if delta.gone:
            self.tables.entries.delete(identity)
            return
        old = self.tables.entries.get(identity)
        entries = dict(self.engine.entries(identity))
        overflow = len(entries) > self._max
        follows = old is not None and not old.overflow and not overflow
        ingress, egress = self.engine.enforced(identity)
        self.tables.entries.upsert(
            SubjectPolicy(
                identity,
                self.revision,
                ingress,
                egress,
                len(entries),
                overflow,
                {} if overflow else entries,
                old.revision if old is not None and follows else 0,
                delta.upserts if follows else {},
                delta.deletes if follows else {},
            )
        )
        if overflow:
            log.error(
                "policy too large, identity locked",
                extra={"identity": identity, "entries": len(entries), "limit": self._max},
            )

    # What endpoints ask

    def hold(self, identity: int) -> None:
        """See :class:`PolicyGate`."""
        self._held.add(identity)
        self._update_subject(identity)

    async def wait_for(self, identity: int) -> int:
        """Return the revision in force once the policy of ``identity`` is in the kernel."""
        self._waiting[identity] += 1
        try:
            self._sync_identities()
            if identity not in self.engine.subjects():
                self._update_subject(identity)
            await self._published.wait()
            self._flush(identity)
            errors = await self.reconciler.wait_for(self.tables.entries.revision)
            row = self.tables.entries.get(identity)
            if identity in errors or row is None:
                reason = errors.get(identity, "it has no entries")
                raise DatapathError(f"policy of identity {identity} is not in force: {reason}")
            return row.revision
        finally:
            self._waiting[identity] -= 1
            if not self._waiting[identity]:
                del self._waiting[identity]
                asyncio.get_running_loop().call_later(ORPHAN_SECONDS, self._drop_orphan, identity)

    def _keep(self, identity: int) -> None:
        """Leave a subject in force for a while after an endpoint has changed its identity."""
        self._kept[identity] += 1
        asyncio.get_running_loop().call_later(ORPHAN_SECONDS, self._end_keep, identity)

    def _end_keep(self, identity: int) -> None:
        self._kept -= Counter((identity,))
        self._drop_orphan(identity)

    def _drop_orphan(self, identity: int) -> None:
        """An endpoint that was waited for and never came leaves nothing behind."""
        if not self._of_identity.get(identity) and not self._waiting[identity]:
            self._update_subject(identity)
