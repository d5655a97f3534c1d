"""What is right but switched off is refused with the field's path, and locks its subjects."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from axoneme.core.model.l7 import L7Protocol, L7Registry
from axoneme.core.model.policy import FqdnPeer, L7Rules, PortRange, Rule
from axoneme.plugins.policy.decode.fields import UnenforceableError
from axoneme.plugins.policy.enforce import Abilities, require
from axoneme.plugins.policy.tests.test_decode_cilium import policy
from axoneme.plugins.policy.tests.test_decode_cluster import cnp, out
from axoneme.plugins.policy.tests.world import decode

NOTHING = Abilities(L7Registry())
DNS_PORT = {"ports": [{"port": "53", "protocol": "ANY"}]}
DNS = {**DNS_PORT, "rules": {"dns": [{"matchPattern": "*.a.b"}, {"matchName": "C.d."}]}}


def everything() -> Abilities:
    registry = L7Registry()
    registry.add(L7Protocol("dns", 134, lambda: 0))
    return Abilities(registry, nodes=True, host=True)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"egress": [{"toFQDNs": [{"matchName": "a.b"}]}]}, "spec.egress[0].toFQDNs"),
        ({"egress": [{"toPorts": [DNS]}]}, "spec.egress[0].toPorts[0].rules.dns"),
        ({"egress": [{"toNodes": [{"matchLabels": {"a": "b"}}]}]}, "spec.egress[0].toNodes"),
        ({"ingress": [{"fromNodes": [{"matchLabels": {"a": "b"}}]}]}, "spec.ingress[0].fromNodes"),
    ],
)
def test_what_is_switched_off(spec: dict[str, Any], field: str) -> None:
    """Named with a hint; with everything on the same rules are taken."""
    rules = decode(policy(**spec))
    with pytest.raises(UnenforceableError) as caught:
        require(rules, NOTHING)
    assert caught.value.field == field
    [lock] = caught.value.lockdown
    assert lock.selectors == () and lock.default_deny and lock.subject == rules[0].subject
    assert require(rules, everything()) == rules


def test_the_node_is_never_locked() -> None:
    """Without the host firewall a ``nodeSelector`` policy is refused and locks nobody."""
    body = policy(clusterwide=True, ingress=[{}])
    body["spec"]["nodeSelector"] = body["spec"].pop("endpointSelector")
    with pytest.raises(UnenforceableError) as caught:
        require(decode(body), NOTHING)
    assert (caught.value.field, caught.value.lockdown) == ("spec.nodeSelector", ())
    assert require(decode(body), everything())


def test_dns_rules_and_plain_ports() -> None:
    """Each item that a proxy has to see is a rule of its own; the others stay one."""
    plain = [{"ports": [{"port": p, "protocol": "TCP"}]} for p in ("80", "443")]
    rules: list[Rule] = decode(policy(egress=[{"toEndpoints": [{}], "toPorts": [*plain, DNS]}]))
    assert [r.origin.path for r in rules] == ["spec.egress[0]", "spec.egress[0].toPorts[2]"]
    assert rules[0].ports == (PortRange(6, 80, 80), PortRange(6, 443, 443))
    assert rules[0].l7 is None and rules[0].selectors == rules[1].selectors
    assert rules[1].l7 == L7Rules("dns", ("name:c.d", "pattern:*.a.b"))
    everything_asked = {**DNS_PORT, "rules": {"dns": []}}
    [only] = decode(policy(egress=[{"toPorts": [everything_asked]}]))
    assert only.l7 == L7Rules("dns") and only.anybody


def test_names() -> None:
    """Lower case, without the final dot."""
    peers = [{"matchName": "A.Example.COM."}, {"matchPattern": "*.Example.com"}]
    [found] = decode(policy(egress=[{"toFQDNs": peers}]))
    assert found.fqdns == (FqdnPeer("a.example.com"), FqdnPeer(pattern="*.example.com"))
    assert not found.anybody


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"toFQDNs": [{}]}, "toFQDNs[0]"),
        ({"toFQDNs": [{"matchName": "a", "matchPattern": "b"}]}, "toFQDNs[0]"),
        ({"toFQDNs": [{"matchName": "*.a"}]}, "toFQDNs[0].matchName"),
        ({"toFQDNs": [{"matchName": "a..b"}]}, "toFQDNs[0].matchName"),
        ({"toFQDNs": [{"matchPattern": "a b"}]}, "toFQDNs[0].matchPattern"),
        ({"toFQDNs": [{"matchPattern": "x" * 256}]}, "toFQDNs[0].matchPattern"),
        (
            {"toPorts": [{"ports": [{"port": "0"}], "rules": {"dns": []}}]},
            "toPorts[0].rules.dns",
        ),
        (
            {"toPorts": [{"ports": [{"port": "53", "endPort": 54}], "rules": {"dns": []}}]},
            "toPorts[0].rules.dns",
        ),
        (
            {"toPorts": [{"ports": [{"port": "dns"}], "rules": {"dns": []}}]},
            "toPorts[0].rules.dns",
        ),
        (
            {"toPorts": [{"ports": [{"port": "53", "protocol": "SCTP"}], "rules": {"dns": []}}]},
            "toPorts[0].rules.dns",
        ),
        ({"toPorts": [{**DNS_PORT, "rules": {"dns": [], "http": []}}]}, "toPorts[0].rules"),
        ({"toPorts": [{**DNS_PORT, "rules": {"kafka": []}}]}, "toPorts[0].rules.kafka"),
        ({"toPorts": [{**DNS_PORT, "rules": {"http": [{}]}}]}, None),
        (
            {"toPorts": [{**DNS_PORT, "rules": {"http": [{"verb": "GET"}]}}]},
            "toPorts[0].rules.http[0].verb",
        ),
        (
            {"toPorts": [{**DNS_PORT, "rules": {"http": [{"path": "/("}]}}]},
            "toPorts[0].rules.http[0].path",
        ),
        (
            {
                "toPorts": [
                    {
                        **DNS_PORT,
                        "rules": {"http": [{"headerMatches": [{"name": "x", "mismatch": "no"}]}]},
                    }
                ]
            },
            "toPorts[0].rules.http[0].headerMatches[0].mismatch",
        ),
        (
            {"toPorts": [{**DNS_PORT, "terminatingTLS": {}}]},
            "toPorts[0].terminatingTLS.secret",
        ),
        ({"toPorts": [{**DNS_PORT, "serverNames": ["a b"]}]}, "toPorts[0].serverNames[0]"),
        ({"toPorts": [{**DNS_PORT, "listener": {}}]}, "toPorts[0].listener.envoyConfig"),
        ({"toServices": [{}]}, "toServices[0]"),
        ({"toServices": [{"k8sService": {}}]}, "toServices[0].k8sService.serviceName"),
        (
            {"toServices": [{"k8sServiceSelector": {}}]},
            "toServices[0].k8sServiceSelector.selector",
        ),
        ({"toCIDRSet": [{"cidrGroupRef": ""}]}, "toCIDRSet[0].cidrGroupRef"),
        (
            {"toCIDRSet": [{"cidrGroupRef": "a", "except": ["x"]}]},
            "toCIDRSet[0].except[0]",
        ),
        ({"toRequires": [{}]}, "toRequires"),
        ({"toGroups": [{"aws": {"region": 1}}]}, "toGroups[0].aws.region"),
    ],
)
def test_bad_fields(item: dict[str, Any], field: str | None) -> None:
    """Each with its path; a mistake is never called ahead of its time."""
    with pytest.raises(Exception) as caught:
        decode(policy(egress=[item]))
    if field is None:
        assert isinstance(caught.value, UnenforceableError)
        return
    assert caught.value.field == f"spec.egress[0].{field}"  # type: ignore[attr-defined]
    assert not isinstance(caught.value, UnenforceableError)


def test_a_pass_and_the_match_mode() -> None:
    """A pass could not reach what is said of a pod's address, so it is refused with its place."""
    rule = {"action": "Pass", "to": [{"networks": ["10.0.0.0/8"]}]}
    obj = cnp(egress=[out(), rule])
    assert require(decode(obj), everything())
    with pytest.raises(UnenforceableError, match="policy-cidr-match-mode") as caught:
        require(decode(obj), evolve(everything(), passes=False))
    assert caught.value.field == "spec.egress[1].action"
    assert len(caught.value.lockdown) == 1


def test_icmp_rules_may_be_switched_off() -> None:
    """Such a policy is refused as a whole."""
    spec: dict[str, Any] = {"ingress": [{"icmps": [{"fields": [{"type": 8}]}]}]}
    assert require(decode(policy(**spec)), everything())
    with pytest.raises(UnenforceableError) as caught:
        require(decode(policy(**spec)), evolve(everything(), icmp=False))
    assert caught.value.field == "spec.ingress[0].icmps"
