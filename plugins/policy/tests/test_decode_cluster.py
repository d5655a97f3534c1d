"""ClusterNetworkPolicy: fields to rules, bad fields to paths, tiers with a namespace's policies."""

from __future__ import annotations

from typing import Any

import pytest

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.policy import Action, Direction, FqdnPeer, PortRange, Tier
from axoneme.plugins.policy.tests.policy_reference import Pod
from axoneme.plugins.policy.tests.world import Cluster, decode
from axoneme.plugins.policy.texts import peer_text

NAMESPACE = "k8s:io.kubernetes.pod.namespace"


def cnp(name: str = "p", **spec: Any) -> dict[str, Any]:
    body = {"tier": "Admin", "priority": 7, "subject": {"namespaces": {}}, **spec}
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {k: v for k, v in body.items() if v is not None},
    }


def rule(action: str = "Accept", senders: list[Any] | None = None, **fields: Any) -> dict[str, Any]:
    who = [{"namespaces": {}}] if senders is None else senders
    return {"action": action, "from": who, **fields}


def out(action: str = "Accept", **fields: Any) -> dict[str, Any]:
    return {"action": action, "to": [{"namespaces": {}}], **fields}


def test_tier_priority_order() -> None:
    """Rules keep their place; nothing is enforced by such a policy itself."""
    rules = decode(cnp(tier="Baseline", ingress=[rule("Deny"), rule("Pass")], egress=[out()]))
    assert {(r.tier, r.priority, r.default_deny) for r in rules} == {(Tier.BASELINE, 7, False)}
    placed = [(r.direction, r.order, r.action) for r in rules]
    assert placed == [
        (Direction.INGRESS, 0, Action.DENY),
        (Direction.INGRESS, 1, Action.PASS),
        (Direction.EGRESS, 0, Action.ALLOW),
    ]


def test_subjects_and_peers_are_pods() -> None:
    """Never nodes or the world, whatever a label's absence would let in."""
    pods = {
        "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]},
        "podSelector": {"matchLabels": {"app": "x"}},
    }
    [found] = decode(cnp(subject={"pods": pods}, ingress=[rule(senders=[{"pods": pods}])]))
    assert NAMESPACE in peer_text(found.subject)
    [peer] = found.selectors
    assert NAMESPACE in peer_text(peer) and "k8s:app=x" in peer_text(peer)


def test_egress_peers() -> None:
    """Nodes, networks and names beside pods."""
    to = [
        {"nodes": {"matchLabels": {"r": "x"}}},
        {"networks": ["10.0.0.0/8", "fd00::/8"]},
        {"domainNames": ["*.Example.org", "a.b"]},
    ]
    [found] = decode(cnp(egress=[out(to=to)]))
    texts = [peer_text(s) for s in found.selectors]
    assert texts == ["node:r=x, reserved:host", "node:r=x, reserved:remote-node"]
    assert [str(c.cidr) for c in found.cidrs] == ["10.0.0.0/8", "fd00::/8"]
    assert found.fqdns == (FqdnPeer(pattern="**.example.org"), FqdnPeer("a.b"))


def test_protocols() -> None:
    """Number, range, name."""
    protocols = [
        {"tcp": {"destinationPort": {"number": 80}}},
        {"udp": {"destinationPort": {"range": {"start": 53, "end": 60}}}},
        {"destinationNamedPort": "web"},
    ]
    [found] = decode(cnp(ingress=[rule(protocols=protocols)]))
    assert found.ports == (PortRange(6, 80, 80), PortRange(17, 53, 60), PortRange(name="web"))


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"tier": None}, "tier"),
        ({"tier": "Normal"}, "tier"),
        ({"priority": None}, "priority"),
        ({"priority": 1001}, "priority"),
        ({"subject": None}, "subject"),
        ({"subject": {}}, "subject"),
        ({"subject": {"pods": {}}}, "subject.pods.podSelector"),
        ({"ingress": [rule()] * 26}, "ingress"),
        ({"ingress": [rule("Allow")]}, "ingress[0].action"),
        ({"ingress": [{"action": "Deny"}]}, "ingress[0].from"),
        ({"ingress": [rule(senders=[])]}, "ingress[0].from"),
        ({"ingress": [rule(senders=[{}])]}, "ingress[0].from[0]"),
        ({"ingress": [rule(senders=[{"networks": []}])]}, "ingress[0].from[0].networks"),
        ({"ingress": [rule(name="x" * 101)]}, "ingress[0].name"),
        ({"egress": [out(to=[{"networks": []}])]}, "egress[0].to[0].networks"),
        ({"egress": [out(to=[{"networks": ["x"]}])]}, "egress[0].to[0].networks[0]"),
        (
            {"egress": [out("Deny", to=[{"domainNames": ["a.b"]}])]},
            "egress[0].to[0].domainNames",
        ),
        (
            {"egress": [out(to=[{"domainNames": ["a*.b"]}])]},
            "egress[0].to[0].domainNames[0]",
        ),
        ({"egress": [out(protocols=[])]}, "egress[0].protocols"),
        ({"egress": [out(protocols=[{"icmp": {}}])]}, "egress[0].protocols[0].icmp"),
        ({"egress": [out(protocols=[{"tcp": {}}])]}, "egress[0].protocols[0].tcp"),
        (
            {"egress": [out(protocols=[{"tcp": {"destinationPort": {"number": 0}}}])]},
            "egress[0].protocols[0].tcp.destinationPort.number",
        ),
        (
            {
                "egress": [
                    out(protocols=[{"tcp": {"destinationPort": {"range": {"start": 9, "end": 9}}}}])
                ]
            },
            "egress[0].protocols[0].tcp.destinationPort.range.end",
        ),
        (
            {
                "egress": [
                    out(
                        to=[{"networks": ["10.0.0.0/8"]}],
                        protocols=[{"destinationNamedPort": "web"}],
                    )
                ]
            },
            "egress[0].protocols[0].destinationNamedPort",
        ),
    ],
)
def test_bad_fields_are_named(spec: dict[str, Any], field: str) -> None:
    """A policy with a bad value is refused with the path of the field."""
    with pytest.raises(InvalidObjectError) as caught:
        decode(cnp(**spec))
    assert caught.value.field == f"spec.{field}"


WEB = Pod("red", "web", {"app": "web"}, {"team": "a"})
CLIENT = Pod("red", "client", {"app": "client"}, {"team": "a"})
STRANGER = Pod("blue", "client", {"app": "client"}, {"team": "b"})
ALLOW = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "n", "namespace": "red"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"from": [{"podSelector": {}}]}],
    },
}
TEAM_B = [{"namespaces": {"matchLabels": {"team": "b"}}}]


def reach(*policies: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the client and the stranger reach web."""
    made = Cluster([WEB, CLIENT, STRANGER])
    for policy in policies:
        made.apply(policy)
    return tuple(made.allows(WEB, "ingress", p, "TCP", 80) for p in (CLIENT, STRANGER))  # type: ignore[return-value]


def test_tiers_around_a_namespace() -> None:
    """Admin before it, Baseline only where it says nothing."""
    assert reach() == (True, True)
    assert reach(ALLOW) == (True, False)
    assert reach(ALLOW, cnp(ingress=[rule(senders=TEAM_B)])) == (True, True)
    assert reach(ALLOW, cnp(ingress=[rule("Deny")])) == (False, False)
    assert reach(cnp(tier="Baseline", ingress=[rule("Deny")])) == (False, False)
    # A NetworkPolicy has the last word on pods that it selects: the baseline is not asked.
    assert reach(ALLOW, cnp(tier="Baseline", ingress=[rule("Deny")])) == (True, False)
    assert reach(ALLOW, cnp(tier="Baseline", ingress=[rule()])) == (True, False)
    passed = cnp(ingress=[rule("Pass", TEAM_B), rule("Deny")])
    assert reach(passed) == (False, True)
    assert reach(passed, ALLOW) == (False, False)
    assert reach(passed, cnp("q", tier="Baseline", ingress=[rule("Deny")])) == (False, False)


def test_priorities() -> None:
    """The lower number is asked first."""
    first = cnp("a", priority=1, ingress=[rule(senders=TEAM_B)])
    second = cnp("b", priority=2, ingress=[rule("Deny")])
    assert reach(first, second) == reach(second, first) == (False, True)
