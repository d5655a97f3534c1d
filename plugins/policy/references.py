"""References in rules: CIDR groups and Services, replaced by whom they stand for.

The engine knows selectors and prefixes only. A rule that names a group or a Service is kept as it
was written and given to the engine resolved; when a group, a Service or its EndpointSlices change,
just the objects that refer to them are resolved again. What does not exist names nobody, never
everybody (CVE-2025-64715). A Service with a selector stands for its pods, wherever they are; one
without for the addresses of its EndpointSlices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network

from attrs import evolve

from axoneme.core.model.labels import K8S, Label, LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import (
    CidrGroupPeer,
    CidrPeer,
    Operator,
    Reference,
    Requirement,
    Rule,
    Selector,
    ServicePeer,
)
from axoneme.core.state import Changes, Table
from axoneme.plugins.policy.decode.labels import in_namespace, selector
from axoneme.plugins.policy.referents import CidrGroup, ServiceName, ServiceRow, SliceRow
from axoneme.plugins.policy.selectors import inside, span

Changed = Callable[[Iterable[ObjectKey]], object]


class References:
    """Rules with references by object, and the tables that they are looked up in."""

    def __init__(
        self,
        groups: Table[str, CidrGroup],
        services: Table[ServiceName, ServiceRow],
        slices: Table[ServiceName, SliceRow],
        changed: Changed,
    ) -> None:
        """``changed`` hears of objects whose references stand for others now."""
        self._groups, self._services, self._slices = groups, services, slices
        self._changed = changed
        self._rules: dict[ObjectKey, Sequence[Rule]] = {}
        self._users: defaultdict[Reference, set[ObjectKey]] = defaultdict(set)
        groups.subscribe(self._groups_changed)
        services.subscribe(self._services_changed)
        slices.subscribe(self._slices_changed)

    def resolve(self, key: ObjectKey, rules: Sequence[Rule]) -> Sequence[Rule]:
        """The rules of an object without references; what it refers to is remembered."""
        self.forget(key)
        used = {r for rule in rules for r in rule.references or ()}
        if not used:
            return rules
        self._rules[key] = rules
        for reference in used:
            self._users[reference].add(key)
        return self.look_up(rules)

    def look_up(self, rules: Sequence[Rule]) -> Sequence[Rule]:
        """Rules without references, as these stand now; nothing is remembered."""
        return [self._resolved(rule) for rule in rules]

    def again(self, key: ObjectKey) -> Sequence[Rule] | None:
        """The rules of an object as its references stand now; ``None`` if it has none."""
        rules = self._rules.get(key)
        return None if rules is None else self.look_up(rules)

    def forget(self, key: ObjectKey) -> None:
        """An object is gone, or has other rules."""
        for rule in self._rules.pop(key, ()):
            for reference in rule.references or ():
                self._users[reference].discard(key)
                if not self._users[reference]:
                    del self._users[reference]

    # What they stand for

    def _resolved(self, rule: Rule) -> Rule:
        if not rule.references:
            return rule
        selectors = list(rule.selectors or ())
        cidrs = list(rule.cidrs or ())
        for reference in rule.references:
            if isinstance(reference, CidrGroupPeer):
                cidrs += self._prefixes(reference)
            else:
                for service in self._named(reference):
                    self._add_service(service, selectors, cidrs)
        return evolve(
            rule,
            selectors=tuple(dict.fromkeys(selectors)),
            cidrs=tuple(dict.fromkeys(cidrs)),
            references=None,
        )

    def _prefixes(self, peer: CidrGroupPeer) -> Iterable[CidrPeer]:
        if peer.selector is None:
            group = self._groups.get(peer.name)
            groups = [group] if group is not None else []
        else:
            groups = [g for g in self._groups if _is_meant(g, peer)]
        for group in groups:
            for prefix in group.cidrs:
                cut = (e for e in peer.excepts if e.version == prefix.version)
                parts = tuple(e for e in cut if inside(span(e), span(prefix)))
                if not any(inside(span(prefix), span(e)) for e in peer.excepts):
                    yield CidrPeer(prefix, parts)

    def _named(self, peer: ServicePeer) -> Iterable[ServiceRow]:
        if peer.selector is None:
            found = self._services.get((peer.namespace, peer.name))
            return [found] if found is not None else []
        return [s for s in self._services if _is_chosen(s, peer)]

    def _add_service(
        self, service: ServiceRow, selectors: list[Selector], cidrs: list[CidrPeer]
    ) -> None:
        if service.selector:
            terms = [Requirement(K8S, k, Operator.IN, (v,)) for k, v in service.selector]
            selectors.append(selector(*terms, in_namespace(service.namespace)))
            return
        for part in self._slices.find("service", (service.namespace, service.name)):
            cidrs += [CidrPeer(ip_network(a)) for a in part.addresses]

    # Changes

    def _groups_changed(self, changes: Changes[str, CidrGroup]) -> None:
        rows = [*changes.upserted.values(), *changes.deleted.values()]
        names = {r.name for r in rows}
        self._tell(
            reference
            for reference in self._users
            if isinstance(reference, CidrGroupPeer)
            # By labels: the group may have had others a moment ago.
            and (reference.selector is not None or reference.name in names)
        )

    def _services_changed(self, changes: Changes[ServiceName, ServiceRow]) -> None:
        self._tell_services({*changes.upserted, *changes.deleted})

    def _slices_changed(self, changes: Changes[ServiceName, SliceRow]) -> None:
        rows = [*changes.upserted.values(), *changes.deleted.values()]
        self._tell_services({r.service for r in rows})

    def _tell_services(self, names: set[ServiceName]) -> None:
        namespaces = {namespace for namespace, _ in names}
        self._tell(
            reference
            for reference in self._users
            if isinstance(reference, ServicePeer)
            and (
                (reference.namespace, reference.name) in names
                or (reference.selector and reference.namespace in ("", *namespaces))
            )
        )

    def _tell(self, references: Iterable[Reference]) -> None:
        keys = {key for reference in list(references) for key in self._users[reference]}
        if keys:
            self._changed(sorted(keys))


def _is_meant(group: CidrGroup, peer: CidrGroupPeer) -> bool:
    return peer.selector is not None and peer.selector.matches(_labels(group.labels))


def _is_chosen(service: ServiceRow, peer: ServicePeer) -> bool:
    if peer.namespace and service.namespace != peer.namespace:
        return False
    return peer.selector is not None and peer.selector.matches(_labels(service.labels))


def _labels(pairs: Iterable[tuple[str, str]]) -> LabelSet:
    return LabelSet.of(Label(K8S, key, value) for key, value in pairs)
