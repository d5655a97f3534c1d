"""From rows of Services and EndpointSlices to rows of ports, with their numbers in the kernel.

Only services that a change concerns are computed again. Who claims a frontend that another service
has already does not get it: the older object keeps it, and the other is named in ``conflicts``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from attrs import evolve

from axoneme.core.model.balancing import (
    Backend,
    Flag,
    Frontend,
    FrontendKey,
    Kind,
    PortKey,
    Redirect,
    ServiceName,
    ServicePort,
)
from axoneme.core.state import Changes, Table
from axoneme.plugins.services.compute import BackendKey, NodeView, service_ports
from axoneme.plugins.services.config import ServiceSettings
from axoneme.plugins.services.numbers import Numbers
from axoneme.plugins.services.rows import Service, Slice

Rank = tuple[str, str, str]
"""Creation time, namespace, name: the least one wins."""


EXTRA: Final = "@"
"""What the namespaces of plugins' services begin with: no namespace of a cluster does."""
YOUNGEST: Final = "~~"


class ServiceManager:
    """Lives on the loop's thread. ``wake`` is called when there is something to compute."""

    def __init__(
        self,
        services: Table[ServiceName, Service],
        slices: Table[ServiceName, Slice],
        ports: Table[PortKey, ServicePort],
        settings: ServiceSettings,
        algorithms: Callable[[], Iterable[str]],
        redirects: Table[tuple[ServiceName, str], Redirect] | None = None,
    ) -> None:
        self.services, self.slices, self.ports = services, slices, ports
        self.settings = settings
        self.node = NodeView()
        self.conflicts: dict[ServiceName, dict[FrontendKey, ServiceName]] = {}
        """Service → frontend that it did not get → who has it."""
        self.wake: Callable[[], object] = lambda: None
        self.frontend_numbers: Numbers[FrontendKey] = Numbers("frontends")
        self.port_numbers: Numbers[PortKey] = Numbers("services' ports")
        self.backend_numbers: Numbers[BackendKey] = Numbers("backends")
        self._algorithms = algorithms
        self._dirty: set[ServiceName] = set()
        self._known_ports: dict[FrontendKey, int] = {}
        self._claims: dict[FrontendKey, dict[ServiceName, Rank]] = {}
        self._claimed: dict[ServiceName, set[FrontendKey]] = {}
        self._rows: dict[ServiceName, dict[PortKey, ServicePort]] = {}
        self._used: Counter[int] = Counter()
        """Rows that name a backend, by its number."""
        self._slice_of: dict[ServiceName, ServiceName] = {}
        self._extras: dict[ServiceName, list[ServicePort]] = {}
        self._redirects = redirects
        if redirects is not None:
            redirects.subscribe(lambda c: self._mark({key[0] for key in (*c.upserted, *c.deleted)}))
        services.subscribe(self._services_changed)
        slices.subscribe(self._slices_changed)

    # What changes

    def _services_changed(self, changes: Changes[ServiceName, Service]) -> None:
        self._mark({*changes.upserted, *changes.deleted})

    def _slices_changed(self, changes: Changes[ServiceName, Slice]) -> None:
        touched = {self._slice_of.get(name) for name in (*changes.upserted, *changes.deleted)}
        for name, row in changes.upserted.items():  # a slice may have been another service's
            self._slice_of[name] = row.service
            touched.add(row.service)
        for name in changes.deleted:
            self._slice_of.pop(name, None)
        self._mark(name for name in touched if name is not None)

    def mark_all(self) -> None:
        """All services are to be computed again."""
        self._mark({s.name for s in self.services} | set(self._rows) | set(self._extras))

    def offer(self, source: str, name: str, rows: Iterable[ServicePort]) -> None:
        """See :class:`ExtraServices`. They are younger than any Service."""
        key = (f"{EXTRA}{source}", name)
        wanted = list(rows)
        if wanted:
            self._extras[key] = wanted
        else:
            self._extras.pop(key, None)
        self._mark([key])

    def set_node(self, node: NodeView) -> None:
        """This node has changed."""
        if node != self.node:
            self.node = node
            self.mark_all()

    def _mark(self, names: Iterable[ServiceName]) -> None:
        self._dirty.update(names)
        self.wake()

    def adopt(
        self,
        frontends: Mapping[FrontendKey, tuple[int, int]],
        backends: Mapping[BackendKey, int],
    ) -> None:
        """What the kernel has: frontend → its id and its service's number; backend → id."""
        self.frontend_numbers.adopt({k: v[0] for k, v in frontends.items()})
        self.backend_numbers.adopt(backends)
        self._known_ports = {k: v[1] for k, v in frontends.items()}

    # Computing

    def flush(self) -> None:
        """Compute what is dirty, all of it at once."""
        with self.ports.transaction():
            while self._dirty:
                names, self._dirty = self._dirty, set()
                for name in sorted(names):
                    self._compute(name)
        self._known_ports = {}

    def finish_adoption(self) -> None:
        """After the first flush: numbers that nobody has asked for are free again."""
        rows = [row for rows in self._rows.values() for row in rows.values()]
        self.frontend_numbers.release_others(f.key for row in rows for f in row.frontends)
        self.backend_numbers.release_others(
            _key(b) for rows in self._rows.values() for row in rows.values() for b in row.backends
        )

    def _compute(self, name: ServiceName) -> None:
        service = self.services.get(name)
        fresh: dict[PortKey, ServicePort] = {}
        if service is not None:
            slices = self.slices.find("service", name)
            made = service_ports(
                service, slices, self.node, self.settings, self._algorithms(),
                self.backend_numbers.get,
            )  # fmt: skip
            rank = (service.created, *name)
            for row in self._settle(name, rank, [self._redirected(r) for r in made]):
                fresh[row.key] = self._numbered(row)
        elif name in self._extras:
            rank = (YOUNGEST, *name)
            for row in self._settle(name, rank, self._extras[name]):
                fresh[row.key] = self._numbered(self._with_backends(row))
        else:
            self._claim(name, ("", *name), set())
        before = self._rows.get(name, {})
        for row in fresh.values():
            self._used.update([b.id for b in row.backends])
        self._forget(before, fresh)
        for key, row in fresh.items():
            if before.get(key) != row:
                self.ports.upsert(row)
        if fresh:
            self._rows[name] = fresh
        else:
            self._rows.pop(name, None)

    def _forget(
        self, before: Mapping[PortKey, ServicePort], fresh: Mapping[PortKey, ServicePort]
    ) -> None:
        """Give back the numbers of what is no more."""
        kept = {f.key for row in fresh.values() for f in row.frontends}
        for key, row in before.items():
            for frontend in row.frontends:
                if frontend.key not in kept and frontend.key not in self._claims:
                    self.frontend_numbers.release(frontend.key)
            for backend in row.backends:
                self._used[backend.id] -= 1
                if not self._used[backend.id]:
                    del self._used[backend.id]
                    self.backend_numbers.release(_key(backend))
            if key not in fresh:
                self.port_numbers.release(key)
                self.ports.delete(key)

    def _redirected(self, row: ServicePort) -> ServicePort:
        """As a local redirect policy wants it."""
        name = (row.key.namespace, row.key.service)
        found = self._redirects.get((name, row.key.port)) if self._redirects is not None else None
        if found is None:
            return row
        backends = tuple(
            Backend(a, port, row.key.proto, local=True, node=self.node.name,
                    id=self.backend_numbers.get((a.packed, port, row.key.proto)))
            for a, port in found.backends
            if a.version == row.key.version
        )  # fmt: skip
        if not backends:
            return row
        frontends = tuple(
            evolve(f, kind=Kind.LOCAL_REDIRECT, flags=f.flags | Flag.REDIRECT)
            for f in row.frontends
        )
        return evolve(
            row, frontends=frontends, backends=backends, chosen=backends, chosen_local=backends
        )

    def _with_backends(self, row: ServicePort) -> ServicePort:
        """Backends of a plugin's row get their numbers too."""
        numbers = {_key(b): self.backend_numbers.get(_key(b)) for b in row.backends}

        def named(backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
            return tuple(evolve(b, id=numbers[_key(b)]) for b in backends)

        return evolve(
            row,
            backends=named(row.backends),
            chosen=named(row.chosen),
            chosen_local=named(row.chosen_local),
        )

    def _numbered(self, row: ServicePort) -> ServicePort:
        known = next((n for f in row.frontends if (n := self._known_ports.get(f.key))), 0)
        return evolve(
            row,
            number=self.port_numbers.reserve(row.key, known),
            frontends=tuple(
                Frontend(f.key, f.kind, f.flags, f.local_out, f.local_in,
                         self.frontend_numbers.get(f.key))
                for f in row.frontends
            ),
        )  # fmt: skip

    # Frontends that two services want

    def _settle(self, name: ServiceName, rank: Rank, rows: list[ServicePort]) -> list[ServicePort]:
        wanted = {f.key for row in rows for f in row.frontends}
        self._claim(name, rank, wanted)
        lost: dict[FrontendKey, ServiceName] = {}
        for key in wanted:
            claims = self._claims[key]
            if len(claims) > 1:
                winner = min(claims, key=claims.__getitem__)
                if winner != name:
                    lost[key] = winner
        if not lost:
            self.conflicts.pop(name, None)
            return rows
        self.conflicts[name] = lost
        return [
            evolve(row, frontends=tuple(f for f in row.frontends if f.key not in lost))
            for row in rows
        ]

    def _claim(self, name: ServiceName, rank: Rank, wanted: set[FrontendKey]) -> None:
        before = self._claimed.get(name, set())
        for key in before - wanted:
            claims = self._claims[key]
            claims.pop(name, None)
            self._dirty.update(claims)
            if not claims:
                del self._claims[key]
        for key in wanted:
            claims = self._claims.setdefault(key, {})
            if claims.get(name) != rank:
                self._dirty.update(other for other in claims if other != name)
                claims[name] = rank
        if wanted:
            self._claimed[name] = wanted
        else:
            self._claimed.pop(name, None)
            self.conflicts.pop(name, None)


def _key(backend: Backend) -> BackendKey:
    return backend.address.packed, backend.port, backend.proto
