"""NetworkPolicy: every list and default as the Kubernetes API defines it."""

from __future__ import annotations

from typing import Any

import pytest

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.policy import Direction, PortRange
from axoneme.plugins.policy.tests.world import decode


def policy(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "red"},
        "spec": {"podSelector": {}, **spec},
    }


def rules_of(item: dict[str, Any], direction: str = "ingress") -> Any:
    """The rule of one item, behind the one that isolates."""
    types = [direction.capitalize()]
    isolating, rule = decode(policy(policyTypes=types, **{direction: [item]}))
    assert isolating.selectors == ()
    return rule


@pytest.mark.parametrize(
    ("spec", "directions"),
    [
        ({}, {"ingress"}),
        ({"ingress": []}, {"ingress"}),
        ({"egress": []}, {"ingress"}),  # nothing in it: not stated
        ({"egress": [], "policyTypes": ["Egress"]}, {"egress"}),
        ({"policyTypes": ["Ingress", "Egress"]}, {"ingress", "egress"}),
        ({"policyTypes": []}, {"ingress"}),
    ],
)
def test_policy_types(spec: dict[str, Any], directions: set[str]) -> None:
    """Ingress always, egress if it is listed, or exactly what ``policyTypes`` says."""
    rules = decode(policy(**spec))
    assert {r.direction.value for r in rules} == directions
    assert all(r.selectors == () and r.default_deny for r in rules)


def test_rules_of_a_direction_that_is_not_listed_are_ignored() -> None:
    """``egress`` rules mean nothing when ``policyTypes`` names ingress alone."""
    rules = decode(policy(policyTypes=["Ingress"], egress=[{}]))
    assert [r.direction for r in rules] == [Direction.INGRESS]


@pytest.mark.parametrize("item", [{}, {"from": []}, {"from": [], "ports": []}, {"from": None}])
def test_an_empty_item_allows_everything(item: dict[str, Any]) -> None:
    """Absent and empty lists of peers or ports mean all, in contrast to Cilium's."""
    rule = rules_of(item)
    assert (rule.selectors, rule.cidrs, rule.ports) == (None, None, None)


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        ({"podSelector": {}}, "k8s:io.kubernetes.pod.namespace=red"),
        (
            {"podSelector": {"matchLabels": {"a": "b"}}},
            "k8s:a=b, k8s:io.kubernetes.pod.namespace=red",
        ),
        ({"namespaceSelector": {}}, "k8s:io.kubernetes.pod.namespace"),
        (
            {"namespaceSelector": {"matchLabels": {"t": "x"}}},
            "k8s:io.cilium.k8s.namespace.labels.t=x, k8s:io.kubernetes.pod.namespace",
        ),
        (
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "blue"}}},
            "k8s:io.kubernetes.pod.namespace, k8s:io.kubernetes.pod.namespace=blue",
        ),
        (
            {
                "namespaceSelector": {
                    "matchExpressions": [{"key": "t", "operator": "DoesNotExist"}]
                },
                "podSelector": {"matchLabels": {"a": "b"}},
            },
            "k8s:a=b, !k8s:io.cilium.k8s.namespace.labels.t, k8s:io.kubernetes.pod.namespace",
        ),
    ],
)
def test_peers(peer: dict[str, Any], text: str) -> None:
    """Without a namespace selector the policy's own namespace; with one never the outside."""
    from axoneme.plugins.policy.texts import peer_text

    rule = rules_of({"from": [peer]})
    assert sorted(peer_text(rule.selectors[0]).split(", ")) == sorted(text.split(", "))
    assert rule.cidrs == ()


def test_ip_block() -> None:
    """A block with exceptions stands beside selectors in one list."""
    rule = rules_of(
        {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}, "egress"
    )
    assert str(rule.cidrs[0].cidr) == "10.0.0.0/8"
    assert [str(e) for e in rule.cidrs[0].excepts] == ["10.1.0.0/16"]
    assert rule.selectors == ()


@pytest.mark.parametrize(
    ("port", "wanted"),
    [
        ({}, PortRange(6)),
        ({"port": 80}, PortRange(6, 80, 80)),
        ({"port": 53, "protocol": "UDP"}, PortRange(17, 53, 53)),
        ({"port": 80, "endPort": 90, "protocol": "SCTP"}, PortRange(132, 80, 90)),
        ({"port": "web"}, PortRange(6, name="web")),
    ],
)
def test_ports(port: dict[str, Any], wanted: PortRange) -> None:
    """TCP by default; numbers, ranges and names."""
    assert rules_of({"ports": [port]}).ports == (wanted,)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"ingress": [{"ports": [{"port": "70000"}]}]}, "spec.ingress[0].ports[0].port"),
        ({"ingress": [{"ports": [{"port": 70000}]}]}, "spec.ingress[0].ports[0].port"),
        ({"ingress": [{"ports": [{"port": 0}]}]}, "spec.ingress[0].ports[0].port"),
        ({"ingress": [{"ports": [{"port": True}]}]}, "spec.ingress[0].ports[0].port"),
        ({"ingress": [{"ports": [{"endPort": 5}]}]}, "spec.ingress[0].ports[0].endPort"),
        (
            {"ingress": [{"ports": [{"port": 80, "endPort": 79}]}]},
            "spec.ingress[0].ports[0].endPort",
        ),
        (
            {"ingress": [{"ports": [{"port": "web", "endPort": 79}]}]},
            "spec.ingress[0].ports[0].endPort",
        ),
        (
            {"ingress": [{"ports": [{"port": 1, "protocol": "ICMP"}]}]},
            "spec.ingress[0].ports[0].protocol",
        ),
        ({"ingress": [{"from": [{}]}]}, "spec.ingress[0].from[0]"),
        ({"ingress": [{"from": "all"}]}, "spec.ingress[0].from"),
        ({"ingress": [{"fron": []}]}, "spec.ingress[0].fron"),
        (
            {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]},
            "spec.ingress[0].from[0].ipBlock.cidr",
        ),
        (
            {
                "ingress": [
                    {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}}]}
                ]
            },
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        (
            {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["::/0"]}}]}]},
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        (
            {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]},
            "spec.ingress[0].from[0]",
        ),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}},
            "spec.podSelector.matchExpressions[0].operator",
        ),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            "spec.podSelector.matchExpressions[0].values",
        ),
        (
            {
                "podSelector": {
                    "matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]
                }
            },
            "spec.podSelector.matchExpressions[0].values",
        ),
        ({"podSelector": {"matchLabels": {"a": True}}}, "spec.podSelector.matchLabels.a"),
        ({"podSelector": {"matchLabels": {"a b": "c"}}}, "spec.podSelector.matchLabels.a b"),
        ({"ingress": [None]}, "spec.ingress[0]"),
        ({"ingress": [{"from": [{"podSelector": None}]}]}, "spec.ingress[0].from[0]"),
        ({"policyTypes": ["Both"]}, "spec.policyTypes[0]"),
        ({"hosts": []}, "spec.hosts"),
    ],
)
def test_bad_fields_are_named(spec: dict[str, Any], field: str) -> None:
    """A policy with a bad value is refused with the path of the field."""
    with pytest.raises(InvalidObjectError) as caught:
        decode(policy(**spec))
    assert caught.value.field == field
    assert caught.value.obj == "NetworkPolicy red/p"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"podSelector": None}, {"podSelector": {}}),
        ({"podSelector": {"matchLabels": None, "matchExpressions": None}}, {"podSelector": {}}),
        (
            {"podSelector": {"matchLabels": {"a": None}}},
            {"podSelector": {"matchLabels": {"a": ""}}},
        ),
        ({"ingress": None, "egress": None, "policyTypes": None}, {}),
        ({"ingress": [{"from": None, "ports": None}]}, {"ingress": [{}]}),
        (
            {"ingress": [{"from": [{"podSelector": None, "namespaceSelector": {}}]}]},
            {"ingress": [{"from": [{"namespaceSelector": {}}]}]},
        ),
        (
            {"ingress": [{"from": [{"podSelector": {}, "ipBlock": None}]}]},
            {"ingress": [{"from": [{"podSelector": {}}]}]},
        ),
        (
            {
                "ingress": [
                    {
                        "from": [
                            {"podSelector": None, "ipBlock": {"cidr": "10.0.0.0/8", "except": None}}
                        ]
                    }
                ]
            },
            {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        ),
        (
            {"ingress": [{"ports": [{"port": 80, "protocol": None, "endPort": None}]}]},
            {"ingress": [{"ports": [{"port": 80}]}]},
        ),
        ({"ingress": [{"ports": [{"port": None}]}]}, {"ingress": [{"ports": [{}]}]}),
    ],
)
def test_null_is_absent(given: dict[str, Any], meant: dict[str, Any]) -> None:
    """As for the API server: a policy that it takes is never left out for a null."""
    assert decode(policy(**given)) == decode(policy(**meant))


@pytest.mark.parametrize("more", [{}, {"spec": None}])
def test_no_spec_isolates_the_namespace(more: dict[str, Any]) -> None:
    """An empty spec selects every pod and allows nobody in."""
    body = policy()
    del body["spec"]
    assert decode({**body, **more}) == decode(policy(podSelector={}))
