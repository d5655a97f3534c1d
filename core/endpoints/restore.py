"""Taking over the endpoints that a predecessor left."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from attrs import evolve

from axoneme.core.endpoints.files import SavedEndpoint
from axoneme.core.endpoints.parts import EndpointParts, holder_of
from axoneme.core.endpoints.rebuild import EndpointRebuilder
from axoneme.core.errors import AxonemeError, NetlinkError, NotFoundError, RetryableError
from axoneme.core.model.endpoint import AddressPair, AddressRequest, Endpoint, EndpointState
from axoneme.core.model.labels import LabelSet
from axoneme.core.reconcile.reconciler import backoff

TRIES = 4
"""How often the kernel is asked for a link."""

log = logging.getLogger(__name__)


class EndpointRestorer:
    """Runs once, before CNI is served."""

    def __init__(self, parts: EndpointParts) -> None:
        self._parts = parts
        self._rebuilder = EndpointRebuilder(parts)

    async def restore(self) -> int:
        """Take over what the predecessor left: rows now, readiness in :meth:`finish`.

        Endpoints whose interface is gone are dropped; interfaces of ours that no endpoint owns
        are removed, save where a state file cannot be read. Identities keep their numbers, so
        pinned policy stays in force meanwhile.
        """
        await self._parts.blocking(self._parts.files.prepare)
        latest = await self._parts.blocking(self._parts.files.latest)
        last = latest.endpoint.id if latest is not None else 0
        found = await self._parts.blocking(self._parts.files.load)
        spared: set[str] = set()
        # The one made last comes last: ids and addresses go on after it.
        for saved in sorted(found, key=lambda s: s.endpoint.id == last):
            try:
                await self._patiently(saved)
            except NetlinkError as error:  # the pod may well be alive: its file and link stay
                spared.add(saved.endpoint.ifname)
                with contextlib.suppress(AxonemeError):
                    self._parts.ids.claim(saved.endpoint.id)
                    self._claim_addresses(saved)
                log.error(
                    "endpoint not restored, link kept",
                    extra={"endpoint": saved.endpoint.name, "error": str(error)},
                )
            except AxonemeError as error:
                log.error(
                    "endpoint not restored",
                    extra={"endpoint": saved.endpoint.name, "error": str(error)},
                )
                await self._parts.blocking(self._parts.links.remove, saved.endpoint.ifname)
                await self._parts.blocking(self._parts.files.delete, saved.endpoint.id)
                self._parts.ids.release(saved.endpoint.id)
        spared |= await self._rebuilder.rebuild(self._restore)
        keep = [*spared, *(e.ifname for e in self._parts.table.rows())]
        if latest is not None:
            self._go_on_after(latest, held=latest.endpoint.ifname in keep)
        for name in await self._parts.blocking(self._parts.links.sweep, keep):
            log.info("half-made link removed", extra={"link": name})
        return len(self._parts.table)

    async def finish(self) -> None:
        """Wait until the restored endpoints are programmed, and call them ready."""
        for endpoint in self._parts.table.rows():
            if endpoint.state != EndpointState.RESTORING:
                continue
            try:
                revision = await self._parts.realizer.settle(endpoint)
            except AxonemeError as error:
                self._parts.note(endpoint.id, state=EndpointState.NOT_READY, message=str(error))
                log.error(
                    "endpoint not ready", extra={"endpoint": endpoint.id, "error": str(error)}
                )
                continue
            self._parts.note(endpoint.id, state=EndpointState.READY, policy_revision=revision)
            self._parts.hooks.changed(self._parts.get(endpoint.id))

    async def _patiently(self, saved: SavedEndpoint) -> None:
        """Restore; a kernel that does not answer is asked a few times more."""
        failures = 0
        while True:
            try:
                await self._restore(saved)
                break
            except NetlinkError as error:
                failures += 1
                if failures == TRIES:
                    raise
                log.warning("link not seen", extra={"error": str(error)})
                await asyncio.sleep(backoff(failures) / 4)

    async def _restore(self, saved: SavedEndpoint) -> None:
        endpoint = saved.endpoint
        index = await self._parts.blocking(self._parts.links.find, endpoint)
        if not index:
            log.info("endpoint gone meanwhile", extra={"endpoint": endpoint.name})
            await self._parts.blocking(self._parts.files.delete, endpoint.id)
            return
        self._labels(endpoint)  # nothing is claimed for one that has no way back
        self._parts.ids.claim(endpoint.id)
        self._claim_addresses(saved)
        try:
            labels, identity = await self._identity(endpoint)
        except NotFoundError:
            self._give_back(endpoint)
            raise
        restored = evolve(endpoint, ifindex=index, labels=labels, identity=identity)
        self._parts.table.upsert(restored)
        self._parts.realizer.write(restored)

    def _go_on_after(self, latest: SavedEndpoint, *, held: bool) -> None:
        """Conntrack remembers dead pods by address and id: neither comes back at once."""
        self._parts.ids.resume(latest.endpoint.id)
        if latest.addresses_given or held:
            return
        pair = AddressPair(latest.endpoint.ipv4, latest.endpoint.ipv6)
        for one in (AddressPair(pair.ipv4, None), AddressPair(None, pair.ipv6)):
            if not tuple(one) or any(self._parts.table.find("address", a) for a in one):
                continue
            request = AddressRequest("(last one)", bool(one.ipv4), bool(one.ipv6), wanted=one)
            with contextlib.suppress(AxonemeError):
                self._parts.hooks.release(self._parts.hooks.allocate(request), request.owner)

    def _claim_addresses(self, saved: SavedEndpoint) -> None:
        endpoint = saved.endpoint
        if saved.addresses_given:
            self._parts.given.add(endpoint.id)
            return
        pair = AddressPair(endpoint.ipv4, endpoint.ipv6)
        request = AddressRequest(
            holder_of(endpoint), pair.ipv4 is not None, pair.ipv6 is not None, wanted=pair
        )
        try:
            self._parts.hooks.allocate(request)
        except NotFoundError as error:  # the pool is another one now: the pod keeps its address
            log.warning(
                "address is outside of the pool, kept until the pod goes",
                extra={"endpoint": endpoint.id, "error": str(error)},
            )
            self._parts.given.add(endpoint.id)

    def _give_back(self, endpoint: Endpoint) -> None:
        if endpoint.id in self._parts.given:
            self._parts.given.discard(endpoint.id)
        else:
            pair = AddressPair(endpoint.ipv4, endpoint.ipv6)
            self._parts.hooks.release(pair, holder_of(endpoint))

    def _labels(self, endpoint: Endpoint) -> LabelSet:
        """The labels to come back with: those of before, unless nobody will make their identity.

        Where the operator makes them it does for pods as they are now, and for no others: a pod
        that is gone has none (``NotFoundError``).
        """
        identities, pods = self._parts.identities, self._parts.pods
        if not identities.numbers.follows or identities.lookup(endpoint.labels) is not None:
            return endpoint.labels
        if identities.numbers.away():  # a pod that is not known may be there all the same
            return endpoint.labels
        if endpoint.pod and pods.pod(endpoint) is None:
            raise NotFoundError(
                f"endpoint {endpoint.name} has no identity: its pod is gone, so nobody makes one"
            )
        return pods.labels(endpoint) or endpoint.labels

    async def _identity(self, endpoint: Endpoint) -> tuple[LabelSet, int]:
        """The endpoint's labels and their number; a store that fails is asked again.

        While it, or the operator whose work that is, is away the endpoint keeps what it has.
        """
        failures = 0
        while True:
            labels = self._labels(endpoint)
            try:
                identity = await self._parts.identities.allocate(labels)
                break
            except RetryableError as error:
                if self._parts.identities.adopt(endpoint.identity, endpoint.labels):
                    labels, identity = endpoint.labels, endpoint.identity
                    break
                failures += 1
                log.warning("identity not confirmed", extra={"error": str(error)})
                await asyncio.sleep(backoff(failures))
        if identity != endpoint.identity:
            log.warning(
                "identity changed while the agent was away",
                extra={"endpoint": endpoint.id, "old": endpoint.identity, "new": identity},
            )
        return labels, identity
