"""Addresses outside the cluster that something is known of, as identities of this node.

Each prefix that a rule names, exceptions included, gets an identity, so that whether an address is
selected is a question about identities alone; so does each prefix that somebody gives labels to
(:class:`axoneme.core.identities.prefixes.PrefixLabels`): what it is called, what it does. Prefixes
of which the same is known share one. The order of a change never opens or closes more than it
should: a new identity has its entries in the kernel before the ipcache hands it out, and one that
is not needed any more leaves the ipcache well before its entries go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final, Protocol

from axoneme.core.identities.reserved import cidr_label, world_labels
from axoneme.core.model.labels import Label, LabelSet
from axoneme.plugins.policy.prefixes import EVERY_IPV4, EVERY_IPV6
from axoneme.plugins.policy.selectors import Prefix

log = logging.getLogger(__name__)

SOURCE: Final = "cidr"
RETRY: Final = 1.0
"""Seconds until the kernel is tried again for prefixes whose policy it would not take."""
LINGER: Final = 2.0
"""Seconds between a prefix's leaving the ipcache table and the end of its identity."""


class Identities(Protocol):
    """What is needed of the identity allocator."""

    def allocate_local(self, labels: LabelSet) -> int:
        """The number of labels."""
        ...

    def release_local(self, number: int) -> bool:
        """One user less."""
        ...


class Addresses(Protocol):
    """What is needed of the ipcache."""

    def upsert(self, prefix: Prefix, identity: int, *, source: str) -> None:
        """Give a prefix an identity."""
        ...

    def delete(self, prefix: Prefix, source: str) -> None:
        """Take it back."""
        ...


class PrefixIdentities:
    """Who says what of which prefix, kept in step with identities and ipcache.

    ``realised`` returns when the policy of all identities is in the kernel, ``told`` when the
    ipcache is.
    """

    def __init__(
        self,
        identities: Identities,
        addresses: Addresses,
        realised: Callable[[], Awaitable[object]],
        *,
        told: Callable[[], Awaitable[object]],
        dual_stack: bool = True,
        beside: PrefixIdentities | None = None,
        world: bool = True,
    ) -> None:
        """``beside`` takes the same prefixes; without ``world`` prefixes stand for themselves."""
        self._identities = identities
        self._addresses = addresses
        self._realised = realised
        self._told = told
        self._dual_stack = dual_stack
        self._beside = beside
        self._world = world
        self._users: Counter[Prefix] = Counter()
        self._given: dict[Prefix, dict[str, frozenset[Label]]] = {}
        self._numbers: dict[Prefix, int] = {}
        self._waiting: dict[Prefix, int | None] = {}
        """Prefixes that the ipcache has to be told of, and what it has until then."""
        self._leaving: dict[tuple[Prefix, int], asyncio.TimerHandle] = {}
        self._programmed: set[int] = set()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.live = False
        """Set once the kernel follows: until then the ipcache is told at once, so that a restart
        finds what the pinned map holds."""

    def go_live(self) -> None:
        """From now on the kernel follows: see ``live``."""
        self.live = True
        if self._beside is not None:
            self._beside.go_live()

    # What rules name

    def acquire(self, prefixes: Iterable[Prefix]) -> None:
        """Count one user of each prefix; all or none.

        Raises :class:`axoneme.core.errors.ExhaustedError` when the node has no number left.
        """
        done: list[Prefix] = []
        try:
            for prefix in prefixes:
                self._users[prefix] += 1
                done.append(prefix)
            self._named_or_not([p for p in done if self._users[p] == 1])
            if self._beside is not None:
                self._beside.acquire(done)
        except Exception:
            self._release(done)
            raise

    def release(self, prefixes: Iterable[Prefix]) -> None:
        """One user of each prefix less."""
        prefixes = list(prefixes)
        self._release(prefixes)
        if self._beside is not None:
            self._beside.release(prefixes)

    def _release(self, prefixes: Iterable[Prefix]) -> None:
        gone = []
        for prefix in prefixes:
            self._users[prefix] -= 1
            if self._users[prefix] <= 0:
                del self._users[prefix]
                gone.append(prefix)
        self._named_or_not(gone)

    def number(self, prefix: Prefix) -> int | None:
        """The identity of a prefix in use."""
        return self._numbers.get(prefix)

    def __len__(self) -> int:
        return len(self._numbers)

    # What others know: PrefixLabels

    def put(self, source: str, labels: Mapping[Prefix, frozenset[Label]]) -> None:
        """See :class:`axoneme.core.identities.prefixes.PrefixLabels`."""
        before = {p: self._given.get(p, {}).get(source) for p in labels}
        try:
            for prefix, said in labels.items():
                self._say(prefix, source, said)
        except Exception:
            for prefix, said_before in before.items():
                self._say(prefix, source, said_before)
            raise

    def drop(self, source: str, prefixes: Iterable[Prefix]) -> None:
        """See :class:`axoneme.core.identities.prefixes.PrefixLabels`."""
        for prefix in prefixes:
            self._say(prefix, source, None)

    async def programmed(self) -> None:
        """See :class:`axoneme.core.identities.prefixes.PrefixLabels`."""
        await self._idle.wait()
        await self._told()

    def _say(self, prefix: Prefix, source: str, labels: frozenset[Label] | None) -> None:
        given = self._given.setdefault(prefix, {})
        if labels:
            given[source] = labels
        else:
            given.pop(source, None)
        if not given:
            del self._given[prefix]
        self._settle(prefix)

    # Keeping in step

    async def run(self) -> None:
        """Hand new prefixes to the ipcache once their entries are in the kernel."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, {}
            try:
                await self._realised()
            except Exception as error:
                log.warning("prefixes wait for their policy: %s", error)
                for prefix, old in waiting.items():
                    self._wait_on(prefix, old)
                self._wake.set()
                await asyncio.sleep(RETRY)
                continue
            self._programmed.update(self._numbers[p] for p in waiting if p in self._numbers)
            for prefix, old in waiting.items():
                self._realise(prefix, old)
            if not self._waiting:
                self._idle.set()

    def _realise(self, prefix: Prefix, old: int | None) -> None:
        """The policy of what a prefix was to be is in the kernel; ``old`` is what it still is."""
        if prefix in self._waiting:  # and now it is to be something else again
            self._wait_on(prefix, old)
            return
        if prefix in self._numbers:
            self._tell(prefix)
        if old is not None:
            self._linger(prefix, old)

    def _wait_on(self, prefix: Prefix, old: int | None) -> None:
        """A prefix waits still, or for something else now; the ipcache has ``old`` until then."""
        never_told = self._waiting.get(prefix)
        self._waiting[prefix] = old
        if never_told is not None:
            self._give_back(never_told)

    def _named_or_not(self, prefixes: Collection[Prefix]) -> None:
        """Rules name the prefixes now, or none does any more: they and those inside are meant."""
        # Everything is the world, which has its identity and its default entry already.
        changed = {p for p in prefixes if not self._world or p not in (EVERY_IPV4, EVERY_IPV6)}
        if not changed:
            return
        for prefix in changed:
            self._settle(prefix)
        lengths = {(p.version, p.prefixlen) for p in changed}
        for prefix in [p for p in self._given if p not in changed]:
            if any(wider in changed for wider in _wider(prefix, lengths)):
                self._settle(prefix)

    def _labels(self, prefix: Prefix) -> LabelSet | None:
        """All that is known of a prefix; ``None``: no more than of what is around it."""
        given = self._given.get(prefix, {})
        if not given and not self._users[prefix]:
            return None
        labels = [label for said in given.values() for label in said]
        if self._world:
            labels += world_labels(prefix.version, dual_stack=self._dual_stack)
        around = self._around(prefix)
        return LabelSet.of(labels if around is None else [*labels, cidr_label(around)])

    def _around(self, prefix: Prefix) -> Prefix | None:
        """The longest prefix that a rule names and that holds this one."""
        if self._users[prefix]:
            return prefix
        lengths = {(p.version, p.prefixlen) for p in self._users if p.prefixlen}
        found = [wider for wider in _wider(prefix, lengths) if self._users[wider]]
        return max(found, key=lambda p: p.prefixlen, default=None)

    def _settle(self, prefix: Prefix) -> None:
        labels = self._labels(prefix)
        old = self._numbers.get(prefix)
        if labels is None:
            if old is not None:
                self._forget(prefix, old)
            return
        number = self._identities.allocate_local(labels)
        if number == old:
            self._identities.release_local(number)
            return
        if (prefix, number) in self._leaving:
            self._end(prefix, number)
        self._numbers[prefix] = number
        self._replace(prefix, old)

    def _replace(self, prefix: Prefix, old: int | None) -> None:
        """The ipcache gets the prefix's new number as soon as its policy is in the kernel."""
        if not self.live or self._numbers[prefix] in self._programmed:
            if prefix in self._waiting:
                if old is not None:  # never told of
                    self._give_back(old)
                old = self._waiting.pop(prefix)
            self._tell(prefix)
            if old is not None:
                self._linger(prefix, old)
            return
        if prefix in self._waiting:
            if old is not None:  # never told of
                self._give_back(old)
        else:
            self._waiting[prefix] = old
        self._idle.clear()
        self._wake.set()

    def _tell(self, prefix: Prefix) -> None:
        self._addresses.upsert(prefix, self._numbers[prefix], source=SOURCE)

    def _forget(self, prefix: Prefix, old: int) -> None:
        del self._numbers[prefix]
        told = self._waiting.pop(prefix, None)
        if told is not None:
            self._linger(prefix, told)
        self._addresses.delete(prefix, SOURCE)
        self._linger(prefix, old)

    def _linger(self, prefix: Prefix, number: int) -> None:
        """Keep a number for a while: packets may be under way that were given it."""
        place = prefix, number
        if place in self._leaving:
            self._end(*place)
        self._leaving[place] = asyncio.get_running_loop().call_later(LINGER, self._end, *place)

    def _end(self, prefix: Prefix, number: int) -> None:
        self._leaving.pop((prefix, number)).cancel()
        self._give_back(number)

    def _give_back(self, number: int) -> None:
        if self._identities.release_local(number):
            self._programmed.discard(number)


def _wider(prefix: Prefix, lengths: Iterable[tuple[int, int]]) -> Iterable[Prefix]:
    """The prefixes of the given (version, length) around one."""
    for version, length in lengths:
        if version == prefix.version and length <= prefix.prefixlen:
            yield prefix.supernet(new_prefix=length)
