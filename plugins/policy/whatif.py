"""``policy.diff``: which flows and which pairs would change if policies were others.

Nothing is applied. The engine's inputs are copied on the loop, which is quick; the comparison runs
in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from axoneme.core.api import dump
from axoneme.core.errors import ApiError, InvalidObjectError, NotReadyError
from axoneme.core.identities.reserved import cidr_labels, world_identity
from axoneme.core.model.identity import LOCAL_SCOPE, MIN_CLUSTER, Identity, Reserved
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.model.policy import Rule
from axoneme.core.store import manifest
from axoneme.plugins.policy import config as options_of
from axoneme.plugins.policy.diff import (
    Change,
    Difference,
    Flow,
    FlowChange,
    PairChange,
    Snapshot,
    compare,
)
from axoneme.plugins.policy.ends import UNMET, Ends
from axoneme.plugins.policy.explain import DIRECTIONS, Answer, Party
from axoneme.plugins.policy.flows import flows_of, recorded
from axoneme.plugins.policy.l4 import PROTOCOL_NAMES
from axoneme.plugins.policy.prefixes import EVERY_IPV4, EVERY_IPV6, facts_of
from axoneme.plugins.policy.selectors import Prefix
from axoneme.plugins.policy.terms import rule_prefixes

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.plugins.policy.manager import PolicyManager

Decode = Callable[[ClusterObject], Sequence[Rule]]

MAX_OBJECTS: Final = 1000
MAX_SUBJECTS: Final = 500
"""Identities whose policy is computed: those of this node first, then others of the cluster."""

_OUTSIDE: Final = (Reserved.WORLD, Reserved.WORLD_IPV4, Reserved.WORLD_IPV6)
_NODES: Final = frozenset((int(Reserved.HOST), int(Reserved.REMOTE_NODE)))


class WhatIf:
    """Compares on behalf of one agent."""

    def __init__(self, agent: Agent, manager: PolicyManager, decode: Decode) -> None:
        self._agent = agent
        self._manager = manager
        self._decode = decode
        self._ends = Ends(agent, manager)
        self._busy = asyncio.Lock()

    async def diff(self, params: dict[str, Any]) -> dict[str, Any]:
        """``policy.diff``: ``objects`` (manifests) and ``delete`` (``KIND/NS/NAME``)."""
        if self._busy.locked():
            raise ApiError("another comparison runs", code="busy", hint="try again")
        async with self._busy:
            changes = self._changes(params)
            added, numbers = self._added(changes)
            snapshot = self._snapshot()
            flows = await self._flows(numbers)
            found = await asyncio.to_thread(compare, snapshot, changes, flows, added)
            return self._view(found, changes, {**snapshot.parties, **added})

    # What is asked

    def _changes(self, params: dict[str, Any]) -> list[Change]:
        objects, gone = params.get("objects") or [], params.get("delete") or []
        if not isinstance(objects, list) or not isinstance(gone, list):
            raise ApiError("objects and delete must be lists", code="bad-request")
        if not 0 < len(objects) + len(gone) <= MAX_OBJECTS:
            raise ApiError(f"give 1 to {MAX_OBJECTS} policies", code="bad-request")
        changes = [self._change(body) for body in objects]
        present = {row.key for row in self._manager.tables.policies}
        for text in gone:
            key = self._key(str(text))
            if key not in present:
                raise ApiError(f"no policy {key}", code="not-found")
            changes.append(Change(key, ()))
        return changes

    def _change(self, body: Any) -> Change:
        if not isinstance(body, Mapping):
            raise InvalidObjectError("object", "", "not a mapping")
        obj = manifest.to_object(body, self._agent.store.kinds)
        kind = self._agent.store.kinds.find(obj.api_version, obj.key.kind)
        if kind is None or not kind.policy:
            raise InvalidObjectError(str(obj.key), "kind", "is no policy")
        if not options_of.wanted(self._agent.config, obj.key.kind):
            raise InvalidObjectError(str(obj.key), "kind", "is not enforced by configuration")
        rules = self._decode(obj)
        references = self._manager.objects.references
        if references is not None:
            rules = references.look_up(rules)
        return Change(obj.key, tuple(rules))

    def _key(self, text: str) -> ObjectKey:
        kind, _, rest = text.partition("/")
        namespace, slash, name = rest.rpartition("/")
        known = {k.kind: k for k in self._agent.store.kinds.policies()}
        if kind not in known or not name:
            words = ", ".join(sorted(known))
            raise ApiError(f"{text!r} is no KIND/NAMESPACE/NAME", code="bad-request", hint=words)
        if known[kind].namespaced and not slash:
            namespace = "default"
        return ObjectKey(kind, namespace if known[kind].namespaced else "", name)

    # The inputs, copied

    def _snapshot(self) -> Snapshot:
        engine = self._manager.engine
        rows = self._agent.tables["identities"].rows()
        parties = {row.id: self._party(row) for row in rows}
        pods: dict[int, list[Any]] = {}
        here = self._agent.tables["endpoints"].rows()
        for row in here:
            pods.setdefault(row.identity, []).append(tuple(row.named_ports))
        for row in self._agent.tables["cluster_endpoints"].rows():
            if len(pods) < MAX_SUBJECTS or row.identity in pods:
                pods.setdefault(row.identity, []).append(tuple(row.named_ports))
        for identity in engine.subjects():
            pods.setdefault(identity, [])
        local = {row.identity: [tuple(r.named_ports) for r in here if r.identity == row.identity]
                 for row in here}  # fmt: skip
        subjects = {
            i: evolve(parties[i], pods=tuple(local.get(i, listed)))
            for i, listed in pods.items()
            if i in parties
        }
        cidrs = {i for i in parties if i >= LOCAL_SCOPE}
        families = self._ends.families
        worlds = {int(world_identity(f, dual_stack=len(families) > 1)) for f in families}
        inhabited = (_NODES | worlds) & parties.keys() | subjects.keys() | cidrs
        return Snapshot(engine.rules(), engine.settings, parties, subjects, frozenset(inhabited))

    def _party(self, row: Identity) -> Party:
        labels, prefixes = facts_of(row, self._ends.families)
        return Party(row.id, labels, prefixes, tuple(self._manager.ports.pods(row.id)))

    def _added(self, changes: Iterable[Change]) -> tuple[dict[int, Party], dict[Prefix, int]]:
        """Identities of prefixes that no rule names yet, under numbers that nobody has."""
        wanted: set[Prefix] = set()
        for change in changes:
            wanted |= set().union(*map(rule_prefixes, change.rules))
        known = self._manager.objects.cidrs
        assert known is not None
        families = self._ends.families
        fresh = [
            prefix
            for prefix in sorted(wanted - {EVERY_IPV4, EVERY_IPV6}, key=lambda p: (p.version, p))
            if prefix.version in families and known.number(prefix) is None
        ]
        numbers = {prefix: UNMET - 1 - n for n, prefix in enumerate(fresh)}
        parties = {}
        for prefix, number in numbers.items():
            labels = cidr_labels(prefix, dual_stack=len(families) > 1)
            party = Party(number, *facts_of(Identity(number, labels, "cidr"), families))
            parties[number] = party
        return parties, numbers

    # Flows

    async def _flows(self, numbers: Mapping[Prefix, int]) -> list[Flow]:
        maps = self._agent.datapath.maps
        if not maps:
            raise NotReadyError("the packet path is not loaded yet")
        found = [maps[name] for name in dump.CONNTRACK if name in maps]
        rows = await asyncio.to_thread(recorded, found)
        names: dict[str, str] = {}

        def name(address: str) -> str:
            if address not in names:
                end = self._ends.of_address(ip_address(address)) if address else None
                names[address] = end.name if end is not None and end.name != address else ""
            return names[address]

        def then(address: str, identity: int) -> int:
            return self._then(address, identity, numbers) if numbers else identity

        return flows_of(rows, then, name)

    def _then(self, address: str, identity: int, numbers: Mapping[Prefix, int]) -> int:
        """The identity of an address once rules name prefixes around it."""
        if identity not in _OUTSIDE and identity < LOCAL_SCOPE:
            return identity
        place = ip_address(address)
        around = [p for p in numbers if p.version == place.version and place in p]
        if not around:
            return identity
        best = max(around, key=lambda p: p.prefixlen)
        entry = self._agent.ipcache.lookup(place)
        if entry is not None and entry.prefix.prefixlen > best.prefixlen:
            return identity
        return numbers[best]

    # The answer

    def _view(
        self, found: Difference, changes: Iterable[Change], parties: Mapping[int, Party]
    ) -> dict[str, Any]:
        return {
            "node": self._agent.node_name,
            "revision": self._manager.revision,
            "policies": [self._change_view(change) for change in changes],
            "flows": [flow_view(change) for change in found.flows],
            "pairs": [self._pair_view(change, parties) for change in found.pairs],
            "flows-judged": found.judged,
            "truncated": found.truncated,
            "seconds": round(found.seconds, 3),
        }

    def _change_view(self, change: Change) -> dict[str, Any]:
        present = {r for _, k, r in self._manager.engine.rules() if k == change.key}
        word = "changed" if present else "added"
        if not change.rules:
            word = "deleted"
        elif present == set(change.rules):
            word = "unchanged"
        return {"object": str(change.key), "change": word, "rules": len(change.rules)}

    def _pair_view(self, pair: PairChange, parties: Mapping[int, Party]) -> dict[str, Any]:
        return {
            "from": self._who(pair.source, parties),
            "to": self._who(pair.destination, parties),
            "ports": list(pair.ports),
            "now": pair.now,
            "then": pair.then,
            "direction": DIRECTIONS[pair.direction],
            **reasons(pair.why),
        }

    def _who(self, identity: int, parties: Mapping[int, Party]) -> dict[str, Any]:
        rows = self._agent.tables["cluster_endpoints"].find("identity", identity)
        pods = sorted(f"{r.namespace}/{r.name}" for r in rows)
        name = self._agent.events.names.identity(identity)
        if not name:
            prefixes = parties[identity].prefixes if identity in parties else ()
            name = ", ".join(map(str, prefixes)) or f"identity {identity}"
        number = 0 if identity > UNMET - MAX_OBJECTS * 100 else identity
        return {"identity": number, "name": name, "pods": pods if identity >= MIN_CLUSTER else []}


def flow_view(change: FlowChange) -> dict[str, Any]:
    """A flow as the API shows it."""
    flow = change.flow
    return {
        "source": _tip_view(flow.source),
        "destination": _tip_view(flow.destination),
        "protocol": PROTOCOL_NAMES.get(flow.packet.protocol, str(flow.packet.protocol)),
        "port": flow.packet.port,
        "state": flow.state,
        "seconds-ago": round(flow.seconds, 1),
        "now": change.now,
        "then": change.then,
        "direction": DIRECTIONS[change.direction],
        **reasons(change.why),
    }


def _tip_view(tip: Any) -> dict[str, Any]:
    return {
        "address": tip.address,
        "port": tip.port,
        "identity": tip.identity,
        "name": tip.name,
    }


def reasons(why: tuple[Answer, Answer] | None) -> dict[str, str]:
    """Why it is so now, why it would be then; and the rule, or what closes the direction."""
    if why is None:
        return {"reason-now": "", "reason-then": "", "rule": ""}
    now, then = why
    deciding = then.deciding or now.deciding
    closing = [m for m in then.enforced_by if m not in now.enforced_by] or list(then.enforced_by)
    match = then.deciding or (closing[0] if closing else deciding)
    return {
        "reason-now": now.reason,
        "reason-then": then.reason,
        "rule": str(match.rule.origin) if match is not None else "",
    }
