"""From policy objects to rules in the engine: the way of each object, whole or not at all.

Decode, look up what it refers to, give its prefixes identities, then hand its rules to the engine
and take the old ones away. When a prefix cannot have an identity the rules in force stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from attrs import evolve

from axoneme.core.errors import AxonemeError
from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import Rule
from axoneme.core.store.model import Store, StoreEvent
from axoneme.plugins.policy.cidrs import PrefixIdentities
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.l7 import ProxyTables
from axoneme.plugins.policy.references import References
from axoneme.plugins.policy.selectors import Prefix
from axoneme.plugins.policy.sources import Outcome, PolicySources
from axoneme.plugins.policy.tables import InForce, PolicyTables
from axoneme.plugins.policy.terms import rule_prefixes
from axoneme.plugins.policy.texts import publish_rules
from axoneme.plugins.policy.timings import Timings

log = logging.getLogger(__name__)


class PolicyObjects:
    """Follows the kinds. ``applied`` is called when the engine has something to compute, ``ready``
    before rules meet identities that were made this moment."""

    def __init__(
        self,
        sources: PolicySources,
        engine: PolicyEngine,
        tables: PolicyTables,
        proxies: ProxyTables,
        timings: Timings,
        *,
        applied: Callable[[], object],
        ready: Callable[[], object],
    ) -> None:
        self.synced = asyncio.Event()
        self.cidrs: PrefixIdentities | None = None
        self.references: References | None = None
        self.changes: Counter[tuple[str, str, str]] = Counter()
        """Kind, operation and outcome of every change."""
        self._sources, self._engine, self._tables = sources, engine, tables
        self._proxies, self._timings = proxies, timings
        self._applied, self._ready = applied, ready
        self._prefixes: dict[ObjectKey, set[Prefix]] = {}
        self._missing: set[str] = set()

    def expect(self, kinds: Sequence[str]) -> None:
        """Name the kinds that must have been read before anything is published."""
        self._missing = set(kinds)
        if not kinds:
            self._tables.policies.mark_initialized()
            self.synced.set()

    async def follow(self, store: Store, kind: str) -> None:
        """Follow one kind of policy objects for ever."""
        seen: set[ObjectKey] = set()
        listing = True
        async for event in store.watch(kind):
            if event.type == "synced":
                listing = False
                for key in [k for k in self._prefixes if k.kind == kind and k not in seen]:
                    self._remove(key)
                self._kind_read(kind)
                continue
            if listing and event.key is not None:
                seen.add(event.key)
            self.take(event)

    def take(self, event: StoreEvent) -> None:
        """One step of a watch."""
        assert event.key is not None
        self._timings.event()
        if event.type == "deleted":
            self._remove(event.key)
        elif event.obj is not None and event.type != "invalid":
            row = self._tables.policies.get(event.key)
            if row is not None and row.valid and self._sources.unchanged(event.obj):
                return  # somebody wrote its status
            self._put(event.key, self._sources.put(event.obj), event.type)
        else:
            self._put(event.key, self._sources.refuse(event.key, event.message), event.type)

    def refresh(self, keys: Iterable[ObjectKey]) -> None:
        """What some objects refer to has changed."""
        assert self.references is not None
        self._timings.event()
        for key in keys:
            rules = self.references.again(key)
            if rules is None:
                continue
            try:
                self._enforce(key, rules)
            except AxonemeError as error:  # no identity left: the rules in force stay
                log.warning("policy not followed", extra={"object": str(key), "error": str(error)})
                row = self._tables.policies.get(key)
                if row is not None:
                    message = f"as before a change of what it refers to: {error}"
                    self._tables.policies.upsert(
                        evolve(row, valid=False, in_force=InForce.LAST_GOOD, message=message)
                    )

    def _kind_read(self, kind: str) -> None:
        self._missing.discard(kind)
        if self._missing or self.synced.is_set():
            return
        self._sources.synced()
        self._tables.policies.mark_initialized()
        self.synced.set()

    def _put(self, key: ObjectKey, outcome: Outcome, operation: str) -> None:
        row, rules = outcome.row, outcome.rules or ()
        if self.references is not None:
            rules = self.references.resolve(key, rules)
        try:
            self._enforce(key, rules)
        except AxonemeError as error:  # no identity left: the rules in force stay
            log.warning("policy not applied", extra={"object": str(key), "error": str(error)})
            force = InForce.LAST_GOOD if key in self._prefixes else InForce.NONE
            row = evolve(row, valid=False, in_force=force, message=str(error))
        self._tables.policies.upsert(row)
        self.changes[key.kind, operation, "success" if row.valid else "fail"] += 1

    def _enforce(self, key: ObjectKey, rules: Sequence[Rule]) -> None:
        """Put rules in the place of an object's old ones; raises when a prefix gets no identity."""
        wanted: set[Prefix] = set().union(*map(rule_prefixes, rules))
        held = self._prefixes.get(key, set())
        if self.cidrs is not None:
            self.cidrs.acquire(wanted - held)
        self._ready()
        self._set_rules(key, rules)
        self._prefixes[key] = wanted
        if self.cidrs is not None:
            self.cidrs.release(held - wanted)

    def _remove(self, key: ObjectKey) -> None:
        self._sources.remove(key)
        if self.references is not None:
            self.references.forget(key)
        self._set_rules(key, ())
        released = self._prefixes.pop(key, set())
        if self.cidrs is not None:
            self.cidrs.release(released)
        self._tables.policies.delete(key)
        self.changes[key.kind, "deleted", "success"] += 1

    def _set_rules(self, key: ObjectKey, rules: Sequence[Rule]) -> None:
        change = self._engine.set_rules(key, rules)
        publish_rules(change, self._tables.rules)
        self._proxies.count(change.removed.values(), change.added.values())
        if change:
            self._timings.changed(key.kind)
            self._applied()
