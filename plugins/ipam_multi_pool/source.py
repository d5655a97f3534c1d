"""The agent's side: addresses out of the node's blocks, and what the node asks for.

``spec.ipam.pools`` of the CiliumNode is the talk between agent and operator: the agent writes
``requested`` and takes blocks out of ``allocated`` that it gives up, the operator puts blocks in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from axoneme.core.errors import AxonemeError, InvalidObjectError, NotReadyError, PendingError
from axoneme.core.ipam.pool import Prefix
from axoneme.core.model.endpoint import AddressPair, AddressRequest
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.nodes.objects import encode_pools, first_address, node_pools
from axoneme.core.state import Table
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.ipam_multi_pool.allocator import NoAddressError, PoolAllocator
from axoneme.plugins.ipam_multi_pool.choice import ANY, PREFIX, Words, choose
from axoneme.plugins.ipam_multi_pool.config import DEFAULT, ahead
from axoneme.plugins.ipam_multi_pool.tables import (
    FAMILIES,
    KIND,
    MAX_NEEDED,
    PodIPPool,
    Request,
    decode_pool,
    encode_requests,
)

if TYPE_CHECKING:
    from axoneme.core.agent import Agent

log = logging.getLogger(__name__)

PATIENCE: Final = 300.0
"""Seconds for which the wish of a pod that does not ask again is kept up."""
LOOK: Final = 1.0
"""Seconds between looks at the operator's word while somebody waits."""


class PoolSource:
    """This node's :class:`axoneme.core.nodes.source.IpamSource`; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self._agent, self._node = agent, agent.node
        self._default = agent.config.text(DEFAULT)
        self.allocator = PoolAllocator(self._default, ahead(agent.config))
        self.pools: Table[str, PodIPPool] = agent.tables.create(
            "pod_ip_pools", PodIPPool, key=lambda r: r.name
        )
        self.word = ""
        """Why the operator gives no more, as far as somebody waits for it."""
        self._asked: dict[str, float] = {}
        self._routers: dict[int, Prefix] = {}
        self._told: object = None
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._reflector = Reflector(agent.store, KIND, self.pools, decode_pool)
        agent.reflectors.append(self._reflector)
        agent.tasks.spawn(f"reflect {KIND}", self._reflector.run)
        agent.tasks.spawn("pod IP pools", self.run)
        agent.required.append(self.pools)
        agent.node.source = self
        agent.node.needed_families = agent.node.families
        agent.node.on_pod_cidrs(lambda _: self._take_blocks())
        self.pools.subscribe(lambda _: self._tell())

    # The node's object

    def wanted(self, present: Mapping[str, Any], node: ClusterObject | None) -> Mapping[str, Any]:
        """With what is needed, and without blocks that are given up."""
        pools = present.get("pools")
        known: Mapping[str, Any] = pools if isinstance(pools, Mapping) else {}
        try:
            there = node_pools("", {"ipam": present})
        except InvalidObjectError:
            return present  # the status names it; pods go on in what there is
        if "allocated" not in known:  # the object was made anew: pods live in these
            there = self._node.pools
        given_up: set[Prefix] = set()
        if self._agent.ready.is_set():  # before, nobody knows which addresses are in use
            given_up = self.allocator.surplus({c for pool in there for c in pool.cidrs})
        kept = [evolve(p, cidrs=tuple(c for c in p.cidrs if c not in given_up)) for p in there]
        asked = {**known, "requested": encode_requests(self.requests())}
        if "allocated" in known or there:
            asked["allocated"] = encode_pools(kept)
        if given_up:
            log.info("blocks given up", extra={"blocks": sorted(map(str, given_up))})
        return {**present, "pools": asked}

    def requests(self) -> tuple[Request, ...]:
        """What the node needs, of the families that are on and that the pool has."""
        found: dict[str, Request] = {}
        for (name, version), count in self.allocator.needs().items():
            pool = self.pools.get(name)
            if version not in self._node.families:
                continue
            if pool is not None and pool.family(version) is None:
                continue
            request = found.get(name) or Request(name)
            found[name] = request.asking(version, min(count, MAX_NEEDED))
        return tuple(found[name] for name in sorted(found))

    def why_missing(self, families: Sequence[int]) -> str:
        """The operator says it."""
        return ""

    def router_prefixes(self, prefixes: Sequence[Prefix]) -> Sequence[Prefix]:
        """One block of the default pool for each family, the same one for ever."""
        row = self._node.row
        published = {a for a in (row.router_ipv4, row.router_ipv6) if a} if row else set()
        found: dict[int, Prefix] = {}
        mine = [c for p in self._node.pools if p.name == self._default for c in p.cidrs]
        usable = [c for c in mine if c in prefixes]
        for version in self._node.families:
            blocks = [c for c in usable if c.version == version]
            kept = [c for c in blocks if c == self._routers.get(version)]
            known = [c for c in blocks if first_address(c) in published]
            if blocks:
                found[version] = [*kept, *known, *blocks][0]
        self._routers.update(found)
        return tuple(found.values())

    def _take_blocks(self) -> None:
        self.allocator.set_pools(self._node.pools, self._node.routers)
        self._tell()

    def _tell(self) -> None:
        """Somebody may get now what was missing; and the node may ask for something else."""
        news, self._news = self._news, asyncio.Event()
        news.set()
        self._reconsider()

    def _reconsider(self) -> None:
        if self.requests() != self._told or self.allocator.has_surplus():
            self._wake.set()

    async def run(self) -> None:
        """Write what changes for ever; listen to the operator while somebody waits."""
        await self._agent.ready.wait()
        while True:
            self._expire()
            try:
                self._wake.clear()
                if self.requests() != self._told or self.allocator.has_surplus():
                    self._told = self.requests()
                    await self._node.publish()
                self.word = await self._node.operators_word() if self.allocator.waiting else ""
            except AxonemeError as error:
                self._told = None
                log.warning("pools not requested", extra={"error": str(error)})
            limit = LOOK if self.allocator.waiting or self._told is None else None
            try:
                async with asyncio.timeout(limit):
                    await self._wake.wait()
            except TimeoutError:
                continue

    # Endpoints

    def allocate(self, request: AddressRequest) -> AddressPair:
        """Addresses of the pod's pools; ``PendingError`` once more are asked for."""
        if request.wanted is not None:
            return self.allocator.claim(request.owner, request.wanted)
        news = self._news
        pools = self.choose(request)
        for version, name in pools.items():
            self._check(name, version, news)
        # A runtime asks for one pod again and again, each time for another sandbox.
        wish = f"{request.namespace}/{request.pod}" if request.pod else request.owner
        try:
            pair = self.allocator.allocate(request.owner, pools, wish)
        except NoAddressError as error:
            self._asked[wish] = asyncio.get_running_loop().time()
            self._wake.set()
            word = self.word or "the operator was asked for more"
            raise PendingError(f"no address left in {error}: {word}", news.wait) from error
        self._asked.pop(wish, None)
        self._reconsider()
        return pair

    def release(self, pair: AddressPair, owner: str) -> None:
        """Take addresses back."""
        self.allocator.release(pair, owner)
        self._reconsider()

    def choose(self, request: AddressRequest) -> dict[int, str]:
        """The pool of each family that is asked for."""
        tables = self._agent.tables
        pod: tuple[Words, Words] = ({}, dict(request.annotations))
        namespace: tuple[Words, Words] = ({}, {})
        row = tables["pods"].get((request.namespace, request.pod))
        if row is not None:
            labels = dict(row.labels) | {
                "io.kubernetes.pod.namespace": request.namespace,
                "io.kubernetes.pod.name": request.pod,
            }
            pod = (labels, dict(row.annotations))
        space = tables["namespaces"].get(request.namespace)
        if space is not None:
            namespace = (dict(space.labels), dict(space.annotations))
        versions = [v for v, on in ((4, request.ipv4), (6, request.ipv6)) if on]
        one = partial(
            choose, pod=pod, namespace=namespace, pools=self.pools.rows(), default=self._default
        )
        return {v: one(v) for v in versions}

    def _check(self, name: str, version: int, news: asyncio.Event) -> None:
        pool = self.pools.get(name)
        if pool is None:
            bad = self._reflector.errors.get(ObjectKey(KIND, "", name))
            raise PendingError(
                bad or f"there is no {KIND} {name}",
                news.wait,
                hint=f"{'repair' if bad else 'create'} it, or choose another one with {ANY}",
            )
        if pool.family(version) is None:
            raise NotReadyError(
                f"{KIND} {name} has no {FAMILIES[version]}",
                hint=f"choose another one with annotation {PREFIX}{FAMILIES[version]}-pool",
            )

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        pods = self._agent.tables["pods"]
        for wish, since in list(self._asked.items()):
            name = tuple(wish.split("/", 1))
            if now - since > PATIENCE or (len(name) == 2 and name not in pods):
                self.allocator.forget(wish)
                del self._asked[wish]
