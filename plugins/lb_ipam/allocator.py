"""Who has which address. Pure: no I/O, no clock; a restart is a new allocator that is told what
the services' statuses say.

Two steps, in this order over all services that are looked at: first everybody keeps what is still
right, then those who lack something are served, who wants a certain address first, then the older
one. So nobody is given what another one has, however the objects are read.

What is *right* to keep: in a block of a pool that selects the service, not reserved, of a family
that the service wants, among the addresses that it asks for if it asks for any, and
shared only with services that agree. Whether the pool is disabled or in conflict does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from axoneme.core.operator.balancers import Address, Name
from axoneme.plugins.lb_ipam.pools import PoolBook
from axoneme.plugins.lb_ipam.rows import Outcome, Pool, Request
from axoneme.plugins.lb_ipam.sharing import why_not

Failure = tuple[str, str]
"""Reason and message."""

NO_POOL: Final = "no_pool"
OUT_OF_IPS: Final = "out_of_ips"


class Allocator:
    """Addresses of all services. Every verb returns the services whose outcome may be new."""

    def __init__(self) -> None:
        self.book = PoolBook()
        self.keep_unknown = False
        """Some pool cannot be read: addresses of ours that are in no pool stay."""
        self.requests: dict[Name, Request] = {}
        self.outcomes: dict[Name, Outcome] = {}
        self.waiting: set[Name] = set()
        """Services that lack something."""
        self.holders: dict[Address, dict[Name, None]] = {}
        self.held: dict[Name, tuple[Address, ...]] = {}
        self._shared: dict[str, dict[Address, None]] = {}

    def set_pools(self, pools: Iterable[Pool], keep_unknown: bool = False) -> set[Name]:
        """Other pools: everybody is looked at."""
        self.book = PoolBook(pools)
        self.keep_unknown = keep_unknown
        for address in self.holders:
            self.book.take(address)
        return self._settle(self.requests.values())

    def update(self, requests: Iterable[Request], gone: Iterable[Name] = ()) -> set[Name]:
        """Services that are new or different, and those that are gone."""
        freed = False
        for name in gone:
            freed |= bool(self.held.get(name))
            self._hold(name, ())
            self.requests.pop(name, None)
            self.outcomes.pop(name, None)
            self.waiting.discard(name)
        requests = list(requests)
        for request in requests:
            old = self.requests.get(request.name)
            if old is not None and old.terms != request.terms:
                freed = True  # others may share with it now
                self._unshare(old)
            self.requests[request.name] = request
        return self._settle(requests, freed)

    def _settle(self, requests: Iterable[Request], freed: bool = False) -> set[Name]:
        requests = sorted(requests, key=lambda r: r.order)
        looked_at = {request.name for request in requests}
        # Who changed loses to who did not; of those who changed, the older one wins.
        for request in sorted(requests, key=lambda r: (r.name not in self.held, r.order)):
            freed |= self._keep(request)
        more = [self.requests[n] for n in self.waiting - looked_at] if freed else []
        changed = {
            r.name for r in sorted([*requests, *more], key=lambda r: r.order) if self._fill(r)
        }
        return looked_at | changed

    # Keeping

    def _keep(self, request: Request) -> bool:
        """Let go of what is not right any more; whether there was any."""
        old = self.held.get(request.name, ())
        kept: list[Address] = []
        for address in dict.fromkeys((*old, *request.present)):
            if self._is_right(request, address, kept):
                kept.append(address)
        self._hold(request.name, kept)
        return any(address not in kept for address in old)

    def _is_right(self, request: Request, address: Address, kept: list[Address]) -> bool:
        others = [self.requests[n] for n in self.holders.get(address, ()) if n != request.name]
        held = address in self.held.get(request.name, ())
        block = self.book.find(address)
        if block is None and not (self.keep_unknown and (held or address in request.given)):
            return False
        if request.problem:
            return held or not others
        if address.version not in request.families:
            return False
        if request.requested and address not in request.requested:
            return False
        if not request.requested and any(k.version == address.version for k in kept):
            return False
        if block is not None and not (
            block.usable(address) and block.pool.selector.matches(request.labels)
        ):
            return False
        return not any(why_not(request, other) for other in others)

    # Giving

    def _fill(self, request: Request) -> bool:
        """Give a service what it lacks; whether its outcome is another one."""
        name = request.name
        addresses, failure = list(self.held.get(name, ())), request.problem
        if failure is None:
            failure = self._give(request, addresses)
        self._hold(name, addresses)
        outcome = Outcome(tuple(addresses), *failure) if failure else Outcome(tuple(addresses))
        (self.waiting.discard if outcome.satisfied else self.waiting.add)(name)
        changed = self.outcomes.get(name) != outcome
        self.outcomes[name] = outcome
        return changed

    def _give(self, request: Request, addresses: list[Address]) -> Failure | None:
        failures: list[Failure] = []
        for version in request.lacking:
            text = f"IPv{version} is required but enable-ipv{version} is false"
            failures.append(("ip_family_disabled", text))
        wanted = [a for a in dict.fromkeys(request.requested) if a not in addresses]
        for address in wanted:
            failure = self._claim(request, address)
            if failure is None:
                addresses.append(address)
            else:
                failures.append(failure)
        have = {a.version for a in addresses}
        for version in () if request.requested else request.families:
            if version not in have:
                found = self._choose(request, version)
                if isinstance(found, tuple):
                    failures.append(found)
                else:
                    addresses.append(found)
        if not failures:
            return None
        return failures[0][0], "; ".join(dict.fromkeys(text for _, text in failures))

    def _claim(self, request: Request, address: Address) -> Failure | None:
        """Whether a certain address can be given; the reason if not."""
        if address.version not in request.families:
            return "ip_family_mismatch", f"{address} is of a family that the service does not have"
        block = self.book.find(address)
        if block is None:
            return NO_POOL, f"{address} is in no pool"
        pool, where = block.pool, f"{address} is in pool {block.pool.name}"
        if not block.active:
            why = "is disabled" if pool.disabled else "conflicts with another pool"
            return NO_POOL, f"{where}, which {why}"
        if not block.usable(address):
            return NO_POOL, f"{where}, which keeps the ends of {block.block.text} back"
        if not pool.selector.matches(request.labels):
            return "pool_selector_mismatch", f"{where}, which does not select this service"
        for other in self.holders.get(address, ()):
            if other == request.name:
                continue
            if not request.sharing_key:
                return "already_allocated", f"{address} belongs to service {'/'.join(other)}"
            why = why_not(request, self.requests[other])
            if why:
                reason = "already_allocated_incompatible_service"
                return reason, f"{address} cannot be shared: {why}"
        return None

    def _choose(self, request: Request, version: int) -> Address | Failure:
        """Some address of a family: one to share, else the lowest free one of the oldest pool."""
        for address in self._shared.get(request.sharing_key, ()) if request.sharing_key else ():
            if address.version == version and self._claim(request, address) is None:
                return address
        seen = False
        for pool in self.book.pools:
            used = self.book.used[pool.name]
            if not (used.active and used.has(version) and pool.selector.matches(request.labels)):
                continue
            seen = True
            free = used.free(version)
            if free is not None:
                return free
        if seen:
            return OUT_OF_IPS, f"no IPv{version} address is left in the pools for this service"
        return NO_POOL, f"no enabled pool with IPv{version} selects this service"

    # Book-keeping

    def _hold(self, name: Name, addresses: Iterable[Address]) -> None:
        old, new = self.held.get(name, ()), tuple(addresses)
        key = self.requests[name].sharing_key if name in self.requests else ""
        for address in old:
            if address not in new:
                self._drop(name, address, key)
        for address in new:
            self.holders.setdefault(address, {})[name] = None
            self.book.take(address)
            if key:
                self._shared.setdefault(key, {})[address] = None
        if new:
            self.held[name] = new
        else:
            self.held.pop(name, None)

    def _drop(self, name: Name, address: Address, key: str) -> None:
        holders = self.holders[address]
        del holders[name]
        self._prune(key, address)
        if holders:
            return
        del self.holders[address]
        self.book.give_back(address)

    def _unshare(self, old: Request) -> None:
        """A service has another sharing key now: its addresses leave the set of the old one."""
        self.requests.pop(old.name)
        for address in self.held.get(old.name, ()):
            self._prune(old.sharing_key, address)

    def _prune(self, key: str, address: Address) -> None:
        """Take an address out of a key's set unless somebody has it under that key."""
        users = (self.requests.get(n) for n in self.holders.get(address, ()))
        if key in self._shared and not any(r and r.sharing_key == key for r in users):
            self._shared[key].pop(address, None)
            if not self._shared[key]:
                del self._shared[key]
