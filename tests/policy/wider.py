"""Agreement about what policies refer to: groups, services, names, DNS rules, and about the modes.

A second world beside :mod:`.agreement`'s: its addresses have names, its rules come through the
references of an agent, and a redirect is a verdict of its own, with the names that it lets through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

from attrs import evolve
from hypothesis import strategies as st

from axoneme.core.dns_names import peer_matches
from axoneme.core.identities.reserved import cidr_label, world_labels
from axoneme.core.model.identity import Identity
from axoneme.core.model.l7 import L7Row, rows_for
from axoneme.core.model.labels import FQDN, Label, LabelSet
from axoneme.core.model.policy import FqdnPeer
from axoneme.core.state import TableRegistry
from axoneme.plugins.policy.entries import EGRESS, INGRESS, lookup
from axoneme.plugins.policy.references import References
from axoneme.plugins.policy.referents import CidrGroup, ServiceRow, SliceRow, referent_tables
from axoneme.plugins.policy.subjects import Settings
from axoneme.plugins.policy.terms import rule_prefixes
from axoneme.plugins.policy.tests import world
from axoneme.plugins.policy.tests.policy_reference import PROTOCOLS
from axoneme.plugins.policy.tests.strategies import PODS, policy_lists
from tests.policy.agreement import DESCRIBED, questions
from tests.policy.reference import cluster as reference
from tests.policy.reference.evaluate import WILDCARD, evaluate
from tests.policy.reference.kinds import Packet

Manifest = dict[str, Any]
Address = IPv4Address | IPv6Address

PROXY: Final = 10053
GROUPS: Final = {
    "office": (("10.1.0.0/16", "fd00:1::/32"), {"kind": "site"}),
    "lab": (("10.1.1.0/24", "192.0.2.0/24"), {"kind": "site", "big": "no"}),
    "none": ((), {"kind": "other"}),
}
SERVICES: Final = {
    ("red", "api"): ({"expose": "yes"}, {"app": "x"}, ()),
    ("red", "out"): ({"expose": "yes"}, {}, ("192.0.2.9", "fd00:2::1")),
    ("blue", "api"): ({"expose": "no"}, {"app": "y", "tier": "1"}, ()),
}
NAMES: Final = {
    "www.example.test": ("10.2.0.1",),
    "db.example.test": ("10.1.2.1", "fd00:2::1"),
    "a.db.example.test": ("10.1.1.1",),
    "other.test": ("192.0.2.9",),
}

_SETS = st.sampled_from(
    [
        {"cidrGroupRef": "office"},
        {"cidrGroupRef": "lab"},
        {"cidrGroupRef": "missing"},
        {"cidrGroupRef": "office", "except": ["10.1.1.0/24"]},
        {"cidrGroupSelector": {"matchLabels": {"kind": "site"}}},
        {"cidrGroupSelector": {"matchExpressions": [{"key": "big", "operator": "Exists"}]}},
        {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]},
    ]
)
_SERVICES = st.sampled_from(
    [
        {"k8sService": {"serviceName": "api", "namespace": "red"}},
        {"k8sService": {"serviceName": "api", "namespace": "blue"}},
        {"k8sService": {"serviceName": "out", "namespace": "red"}},
        {"k8sService": {"serviceName": "none", "namespace": "red"}},
        {"k8sServiceSelector": {"selector": {"matchLabels": {"expose": "yes"}}}},
    ]
)
_FQDNS = st.sampled_from(
    [
        {"matchName": "www.example.test"},
        {"matchName": "Other.Test."},
        {"matchPattern": "*.example.test"},
        {"matchPattern": "**.example.test"},
        {"matchPattern": "*.test"},
        {"matchPattern": "*"},
        {"matchPattern": "d*.example.test"},
    ]
)
_DNS = st.lists(
    st.sampled_from([{"matchName": "a.test"}, {"matchPattern": "*.b.test"}, {"matchPattern": "*"}]),
    min_size=1,
    max_size=2,
)
_PORTS = st.sampled_from(
    [
        {"ports": [{"port": "80", "protocol": "TCP"}]},
        {"ports": [{"port": "53", "protocol": "UDP"}]},
        {"ports": [{"port": "53", "protocol": "ANY"}, {"port": "443", "protocol": "TCP"}]},
    ]
)


@st.composite
def _egress(draw: Any) -> Manifest:
    item: Manifest = draw(
        st.lists(_SETS, min_size=1, max_size=2).map(lambda v: {"toCIDRSet": v})
        | st.lists(_SERVICES, min_size=1, max_size=2).map(lambda v: {"toServices": v})
        | st.lists(_FQDNS, min_size=1, max_size=2).map(lambda v: {"toFQDNs": v})
        | st.sampled_from([{}, {"toEntities": ["world"]}, {"toEntities": ["all"]}])
        | st.sampled_from([{"toEndpoints": [{}]}, {"toCIDR": ["10.1.0.0/16"]}])
    )
    if not item or draw(st.booleans()):
        item = {**item, "toPorts": [draw(_PORTS)]}
        if "toFQDNs" not in item and draw(st.booleans()):
            port = {"ports": [{"port": "53", "protocol": draw(st.sampled_from(["UDP", "ANY"]))}]}
            item["toPorts"] = [{**port, "rules": {"dns": draw(_DNS)}}]
    return item


@st.composite
def _policies(draw: Any, index: int) -> Manifest:
    rule: Manifest = {
        "endpointSelector": draw(st.sampled_from([{}, {"matchLabels": {"app": "x"}}])),
        "egress": draw(st.lists(_egress(), min_size=1, max_size=3)),
    }
    if draw(st.booleans()):
        denied = {"toCIDRSet": [draw(_SETS)]} | draw(
            st.sampled_from([{}, {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}])
        )
        rule["egressDeny"] = [denied]
    if draw(st.booleans()):
        rule["ingress"] = [{"fromCIDRSet": [draw(_SETS)]}]
    many = draw(st.booleans())
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": f"w{index}", "namespace": draw(st.sampled_from(["red", "blue"]))},
        **({"specs": [rule, {**rule, "endpointSelector": {}}]} if many else {"spec": rule}),
    }


@st.composite
def cases(draw: Any) -> tuple[str, list[Manifest]]:
    """A mode, and policies."""
    mode = draw(st.sampled_from(["default", "default", "always", "never"]))
    plain: list[Manifest] = draw(policy_lists(1))
    return mode, plain + [draw(_policies(i)) for i in range(draw(st.integers(1, 2)))]


def described(mode: str) -> reference.Cluster:
    """The same world as the reference knows it."""
    return evolve(
        DESCRIBED,
        services=tuple(
            reference.Service(ns, name, labels, chosen, tuple(map(ip_address, addresses)))
            for (ns, name), (labels, chosen, addresses) in SERVICES.items()
        ),
        cidr_groups=tuple(
            reference.CidrGroup(name, cidrs, labels) for name, (cidrs, labels) in GROUPS.items()
        ),
        names={name: tuple(map(ip_address, found)) for name, found in NAMES.items()},
        settings=evolve(DESCRIBED.settings, enable_policy=mode),
    )


class Cluster(world.Cluster):
    """An engine whose rules come through references, and whose addresses have names."""

    def __init__(self, mode: str) -> None:
        settings = Settings(mode, False, {"dns": 134}, {"dns": PROXY})
        super().__init__(PODS, settings)
        self._references = _references()
        self._fqdns: set[FqdnPeer] = set()

    def apply(self, manifest: Manifest) -> None:
        rules = self._references.look_up(world.decode(manifest))
        for rule in rules:
            self._fqdns.update(rule.fqdns or ())
            for prefix in rule_prefixes(rule):
                if prefix not in self.prefixes and prefix.prefixlen:
                    self.add_prefix(prefix, (1 << 24) + len(self.prefixes))
        self.engine.set_rules(world.as_object(manifest).key, rules)

    def name(self) -> None:
        """Give each address the labels of the names that lead to it; behind all rules."""
        known: dict[Address, set[Label]] = {}
        for name, found in NAMES.items():
            labels = {Label(FQDN, p.label_key) for p in self._fqdns if peer_matches(p, name)}
            for text in found:
                known.setdefault(ip_address(text), set()).update(labels)
        for address, labels in known.items():
            around = [p for p in self.prefixes if p.prefixlen and address in p]
            if around:
                labels.add(cidr_label(max(around, key=lambda p: p.prefixlen)))
            if not labels:
                continue
            labels |= set(world_labels(address.version, dual_stack=True))
            prefix = ip_network(address)
            number = self.prefixes.get(prefix, (1 << 24) + 1000 + len(self.prefixes))
            self.prefixes[prefix] = number
            self._put(Identity(number, LabelSet.of(labels), "cidr"))

    def answer(
        self, subject: Any, direction: str, peer: Any, proto: str, port: int
    ) -> tuple[str, frozenset[str]]:
        """Verdict, and the names that a redirect lets through."""
        own, other = self.number(subject), self.number(peer)
        way = INGRESS if direction == "ingress" else EGRESS
        known = other in self.engine.selectors
        found = lookup(self.engine.entries(own), other, way, PROTOCOLS[proto], port, known=known)
        if found is None or found.deny:
            return "deny", frozenset()
        if not found.proxy_port:
            return "allow", frozenset()
        rows = [
            L7Row(own, True, of, *seen.l4, seen.protocol, seen.rules, seen.whole)
            for (direct, of), listed in self.engine.l7(own).items()
            for seen in listed
            if direct == way
        ]
        said = [r.rules for r in rows_for(rows, other, PROTOCOLS[proto], port)]
        if None in said:
            return "redirect", WILDCARD
        texts = frozenset(t.partition(":")[2] for rules in said for t in rules or ())
        return "redirect", texts


def _references() -> References:
    tables = TableRegistry()
    groups, services, slices = referent_tables(tables)
    for name, (cidrs, labels) in GROUPS.items():
        groups.upsert(CidrGroup(name, _pairs(labels), tuple(map(ip_network, cidrs))))
    for (namespace, name), (labels, chosen, addresses) in SERVICES.items():
        services.upsert(ServiceRow(namespace, name, _pairs(labels), _pairs(chosen)))
        found = tuple(map(ip_address, addresses))
        slices.upsert(SliceRow(namespace, f"{name}-1", (namespace, name), found))
    return References(groups, services, slices, lambda keys: None)


def _pairs(mapping: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(mapping.items()))


def compare(mode: str, listed: list[Manifest], counts: Counter[str]) -> None:
    """Every subject, peer, direction and packet; an assertion names the first difference."""
    engine, told = Cluster(mode), described(mode)
    for manifest in listed:
        engine.apply(manifest)
    engine.name()
    engine.engine.flush()
    for pod in PODS:
        for subject, direction, peer, source, target, proto, port in questions(pod):
            found = engine.answer(subject, direction, peer, proto, port)
            answer = evaluate(told, listed, Packet(source, target, proto, port), direction)
            said = answer.verdict, frozenset(answer.patterns)
            counts[answer.verdict] += 1
            counts["questions"] += 1
            if answer.verdict != "redirect":
                said = answer.verdict, frozenset()
            elif "*" in said[1] or "*" in found[1]:  # all names, however it is said
                said, found = (said[0], said[1] & WILDCARD), (found[0], found[1] & WILDCARD)
            assert said == found, (
                f"{mode}, {direction}, {source} to {target} {port}/{proto}: the reference says "
                f"{said} ({answer.decided_by or answer.why}), the engine {found}, of {listed}"
            )
    counts["cases"] += 1
