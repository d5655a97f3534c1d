"""Selectors and the identities that they match, kept up to date in both directions.

A selector is stored once, however many rules use it, and known by a small number (its handle).
An identity that appears is tested only against selectors that could match it: those filed under
one of its labels, or under a prefix that covers its own, and the few without any positive term.
A new selector is tested only against identities filed under its rarest term.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from attrs import Factory, define

from axoneme.core.model.labels import NAMESPACE_KEY, LabelSet
from axoneme.core.model.policy import CidrPeer, Operator, Selector

Prefix = IPv4Network | IPv6Network
Peer = Selector | CidrPeer

Span = tuple[int, int, int]
"""A prefix as numbers: version, network address, length."""


def span(prefix: Prefix) -> Span:
    """A prefix as numbers, which compare much faster than network objects."""
    return prefix.version, int(prefix.network_address), prefix.prefixlen


def _widen(inner: Span, length: int) -> Span:
    version, address, _ = inner
    drop = (32 if version == 4 else 128) - length
    return version, address >> drop << drop, length


def inside(inner: Span, outer: Span) -> bool:
    """Whether ``inner`` is ``outer`` or lies in it."""
    return inner[0] == outer[0] and inner[2] >= outer[2] and _widen(inner, outer[2]) == outer


@define
class _Facts:
    labels: LabelSet
    spans: tuple[Span, ...]
    matched: set[int] = Factory(set)


@define
class _Entry:
    peer: Peer
    users: int = 0
    matched: set[int] = Factory(set)
    cidr: Span = (0, 0, 0)
    excepts: tuple[Span, ...] = ()


class SelectorCache:
    """Selectors with users, identities with labels and prefixes, and who matches whom."""

    def __init__(self) -> None:
        self._handles: dict[Peer, int] = {}
        self._entries: dict[int, _Entry] = {}
        self._next = 1
        self._identities: dict[int, _Facts] = {}
        self._ids_by_value: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self._ids_by_key: defaultdict[str, set[int]] = defaultdict(set)
        self._ids_by_span: list[tuple[Span, int]] = []
        self._by_value: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self._by_key: defaultdict[str, set[int]] = defaultdict(set)
        self._by_span: defaultdict[Span, set[int]] = defaultdict(set)
        self._lengths: Counter[tuple[int, int]] = Counter()
        self._unfiled: set[int] = set()
        self._touched: set[int] = set()

    # Selectors

    def acquire(self, peer: Peer) -> int:
        """Count one user of ``peer`` and return its handle; new ones are matched now."""
        handle = self._handles.get(peer)
        if handle is None:
            handle = self._add(peer)
        self._entries[handle].users += 1
        self._touched.add(handle)
        return handle

    def release(self, handle: int) -> None:
        """One user less; a selector without users is forgotten."""
        entry = self._entries[handle]
        entry.users -= 1
        self._touched.add(handle)
        if entry.users:
            return
        for identity in entry.matched:
            self._identities[identity].matched.discard(handle)
        self._file(handle, entry, add=False)
        del self._entries[handle], self._handles[entry.peer]

    def matched(self, handle: int) -> set[int]:
        """Identities that the selector matches now. Live: copy it before changing anything."""
        return self._entries[handle].matched

    def take_touched(self) -> set[int]:
        """Handles that came, went or match others than at the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def describe(self, handle: int) -> tuple[Peer, int, int] | None:
        """Selector, number of users and of matches; ``None`` if it is gone."""
        entry = self._entries.get(handle)
        return (entry.peer, entry.users, len(entry.matched)) if entry else None

    def handles(self) -> list[int]:
        """Every handle, oldest first."""
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    # Identities

    def add_identity(
        self, identity: int, labels: LabelSet, prefixes: Iterable[Prefix] = ()
    ) -> set[int]:
        """File an identity; returns the handles of the selectors that match it."""
        assert identity not in self._identities
        facts = _Facts(labels, tuple(span(p) for p in prefixes))
        self._identities[identity] = facts
        for label in labels:
            self._ids_by_value[label.key, label.value].add(identity)
            self._ids_by_key[label.key].add(identity)
        for one in facts.spans:
            insort(self._ids_by_span, (one, identity))
        for handle in self._candidates(facts):
            entry = self._entries[handle]
            if _matches(entry, facts):
                entry.matched.add(identity)
                facts.matched.add(handle)
        self._touched |= facts.matched
        return facts.matched

    def remove_identity(self, identity: int) -> set[int]:
        """Forget an identity; returns the handles that matched it."""
        facts = self._identities.pop(identity)
        for label in facts.labels:
            _drop(self._ids_by_value, (label.key, label.value), identity)
            _drop(self._ids_by_key, label.key, identity)
        for one in facts.spans:
            del self._ids_by_span[bisect_left(self._ids_by_span, (one, identity))]
        for handle in facts.matched:
            self._entries[handle].matched.discard(identity)
        self._touched |= facts.matched
        return facts.matched

    def same_identity(self, identity: int, labels: LabelSet, prefixes: Iterable[Prefix]) -> bool:
        """Whether the identity is filed with exactly these facts."""
        facts = self._identities.get(identity)
        return (
            facts is not None
            and facts.labels == labels
            and facts.spans == tuple(span(p) for p in prefixes)
        )

    def __contains__(self, identity: object) -> bool:
        return identity in self._identities

    def identities(self) -> list[int]:
        """Every filed identity."""
        return list(self._identities)

    def labels(self, identity: int) -> LabelSet | None:
        """Labels of a filed identity."""
        facts = self._identities.get(identity)
        return facts.labels if facts else None

    def handles_of(self, identity: int) -> set[int]:
        """Handles that match an identity; empty for one nobody filed. Live."""
        facts = self._identities.get(identity)
        return facts.matched if facts else set()

    # How they find each other

    def _add(self, peer: Peer) -> int:
        handle, self._next = self._next, self._next + 1
        entry = _Entry(peer)
        if isinstance(peer, CidrPeer):
            entry.cidr = span(peer.cidr)
            entry.excepts = tuple(span(e) for e in peer.excepts)
        self._handles[peer] = handle
        self._entries[handle] = entry
        self._file(handle, entry, add=True)
        for identity in self._possible(entry):
            facts = self._identities[identity]
            if _matches(entry, facts):
                entry.matched.add(identity)
                facts.matched.add(handle)
        return handle

    def _file(self, handle: int, entry: _Entry, *, add: bool) -> None:
        """File a selector under one positive term, or take it out again."""
        if isinstance(entry.peer, CidrPeer):
            _change(self._by_span, entry.cidr, handle, add=add)
            length = entry.cidr[0], entry.cidr[2]
            self._lengths[length] += 1 if add else -1
            if not self._lengths[length]:
                del self._lengths[length]
            return
        values, keys = _terms(entry.peer)
        for pair in values:
            _change(self._by_value, pair, handle, add=add)
        for key in keys:
            _change(self._by_key, key, handle, add=add)
        if not values and not keys:
            (self._unfiled.add if add else self._unfiled.discard)(handle)

    def _candidates(self, facts: _Facts) -> set[int]:
        found = set(self._unfiled)
        for label in facts.labels:
            found |= self._by_value.get((label.key, label.value), set())
            found |= self._by_key.get(label.key, set())
        for one in facts.spans:
            for version, length in self._lengths:
                if version == one[0] and length <= one[2]:
                    found |= self._by_span.get(_widen(one, length), set())
        return found

    def _possible(self, entry: _Entry) -> Iterable[int]:
        if isinstance(entry.peer, CidrPeer):
            version, address, length = entry.cidr
            width = (32 if version == 4 else 128) - length
            start = bisect_left(self._ids_by_span, ((version, address, 0), 0))
            end = bisect_left(self._ids_by_span, ((version, address + (1 << width), 0), 0))
            return [identity for _, identity in self._ids_by_span[start:end]]
        sets = [
            [self._ids_by_value.get((r.key, v), set()) for v in r.values]
            for r in entry.peer.requirements
            if r.operator == Operator.IN
        ]
        sets += [
            [self._ids_by_key.get(r.key, set())]
            for r in entry.peer.requirements
            if r.operator == Operator.EXISTS
        ]
        if not sets:
            return list(self._identities)
        rarest = min(sets, key=lambda group: sum(map(len, group)))
        return set().union(*rarest)


def _matches(entry: _Entry, facts: _Facts) -> bool:
    if isinstance(entry.peer, CidrPeer):
        return any(
            inside(one, entry.cidr) and not any(inside(one, e) for e in entry.excepts)
            for one in facts.spans
        )
    return entry.peer.matches(facts.labels)


def _terms(selector: Selector) -> tuple[list[tuple[str, str]], list[str]]:
    """The term to file a selector under: an ``In``, not on the namespace if possible."""
    ins = [r for r in selector.requirements if r.operator == Operator.IN]
    if ins:
        best = min(ins, key=lambda r: (r.key == NAMESPACE_KEY, len(r.values)))
        return [(best.key, v) for v in best.values], []
    exists = [r.key for r in selector.requirements if r.operator == Operator.EXISTS]
    return [], exists[:1]


def _change(index: defaultdict[Any, set[int]], key: Any, handle: int, *, add: bool) -> None:
    if add:
        index[key].add(handle)
    else:
        _drop(index, key, handle)


def _drop(index: defaultdict[Any, set[int]], key: Any, member: int) -> None:
    members = index.get(key)
    if members is None:
        return
    members.discard(member)
    if not members:
        del index[key]
