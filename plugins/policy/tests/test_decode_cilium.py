"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: the must-match list of reference §2.3."""

from __future__ import annotations

from typing import Any

import pytest

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.policy import PortRange
from axoneme.plugins.policy.decode.fields import UnenforceableError
from axoneme.plugins.policy.tests.world import decode
from axoneme.plugins.policy.texts import peer_text


def policy(clusterwide: bool = False, **spec: Any) -> dict[str, Any]:
    kind = "CiliumClusterwideNetworkPolicy" if clusterwide else "CiliumNetworkPolicy"
    metadata = {"name": "p"} if clusterwide else {"name": "p", "namespace": "red"}
    spec = {"endpointSelector": {}, **spec}
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}


def rule(item: dict[str, Any], direction: str = "ingress", **more: Any) -> Any:
    body: Any = {direction: [item]}
    [found] = decode(policy(**more, **body))
    return found


NAMESPACE = "k8s:io.kubernetes.pod.namespace"


@pytest.mark.parametrize(
    ("selector", "red", "clusterwide"),
    [
        ({}, f"{NAMESPACE}=red", NAMESPACE),
        ({"matchLabels": {"a": "b"}}, f"any:a=b, {NAMESPACE}=red", f"any:a=b, {NAMESPACE}"),
        (
            {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "blue"}},
            f"{NAMESPACE}=blue",
            f"{NAMESPACE}=blue",
        ),
        ({"matchLabels": {"reserved:host": ""}}, "reserved:host", "reserved:host"),
        (
            {"matchExpressions": [{"key": "reserved:init", "operator": "DoesNotExist"}]},
            f"{NAMESPACE}=red, !reserved:init",
            f"{NAMESPACE}, !reserved:init",
        ),
        (
            {"matchLabels": {"io.cilium.k8s.namespace.labels.t": "x"}},
            f"any:io.cilium.k8s.namespace.labels.t=x, {NAMESPACE}",
            f"any:io.cilium.k8s.namespace.labels.t=x, {NAMESPACE}",
        ),
    ],
)
def test_peer_namespaces(selector: dict[str, Any], red: str, clusterwide: str) -> None:
    """A selector that names no namespace means the policy's own; clusterwide, any pod.

    ``DoesNotExist`` on a reserved label does not lift that (CVE-2023-41333), and endpoints are
    pods: never nodes or the world with the same labels (CVE-2025-30163).
    """
    item = {"fromEndpoints": [selector]}
    assert peer_text(rule(item).selectors[0]) == red
    assert peer_text(rule(item, clusterwide=True).selectors[0]) == clusterwide


def test_subject_stays_in_its_namespace() -> None:
    """The policy's namespace is added to the subject whatever its terms say (CVE-2023-41333)."""
    selector = {"matchExpressions": [{"key": "reserved:init", "operator": "DoesNotExist"}]}
    found = rule({}, endpointSelector=selector)
    assert f"{NAMESPACE}=red" in peer_text(found.subject)


@pytest.mark.parametrize("source", ["", "k8s:", "any:"])
def test_another_namespace_is_overridden(source: str, caplog: pytest.LogCaptureFixture) -> None:
    """A subject's label for the namespace gives way to the policy's own, as in Cilium."""
    labels = {f"{source}io.kubernetes.pod.namespace": "blue", "app": "web"}
    found = rule({}, endpointSelector={"matchLabels": labels})
    assert peer_text(found.subject) == f"any:app=web, {NAMESPACE}=red"
    assert "its own applies" in caplog.text
    expression = {"key": NAMESPACE, "operator": "In", "values": ["blue"]}
    found = rule({}, endpointSelector={"matchExpressions": [expression]})
    assert "=blue" in peer_text(found.subject) and "=red" in peer_text(found.subject)


@pytest.mark.parametrize(
    "item", [{}, {"fromEndpoints": []}, {"fromCIDR": []}, {"fromEntities": []}]
)
def test_nobody(item: dict[str, Any]) -> None:
    """An item that says nothing and an empty list of peers allow nobody (CVE-2025-64715)."""
    found = rule(item)
    assert not found.selectors and not found.cidrs
    assert not found.anybody


def test_ports_alone_are_for_anybody() -> None:
    """An item with ports and no peers is about every peer."""
    found = rule({"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]})
    assert (found.selectors, found.cidrs) == (None, None)
    assert found.ports == (PortRange(6, 80, 80),)


@pytest.mark.parametrize(
    ("spec", "default_deny"),
    [
        ({"ingress": [{}]}, [True]),
        ({"ingress": []}, None),
        ({"ingressDeny": [{"fromEntities": ["world"]}]}, [True]),
        ({"ingress": [{}], "enableDefaultDeny": {"ingress": False}}, [False]),
        ({"ingress": [{}], "enableDefaultDeny": {"egress": True}}, [True, True]),
    ],
)
def test_default_deny(spec: dict[str, Any], default_deny: list[bool] | None) -> None:
    """Stated, or on for a direction that has rules; a policy without any rule is refused."""
    if default_deny is None:
        with pytest.raises(InvalidObjectError, match="no rule"):
            decode(policy(**spec))
        return
    assert [r.default_deny for r in decode(policy(**spec))] == default_deny


@pytest.mark.parametrize(
    ("port", "wanted"),
    [
        ({"port": "80"}, PortRange(0, 80, 80)),
        ({"port": "80", "protocol": "ANY"}, PortRange(0, 80, 80)),
        ({"port": "0", "protocol": "UDP"}, PortRange(17)),
        ({"protocol": "UDP"}, PortRange(17)),
        ({"port": "0"}, PortRange()),
        ({"port": "1", "endPort": 65535, "protocol": "TCP"}, PortRange(6, 1, 65535)),
        ({"port": "Web", "protocol": "TCP"}, PortRange(6, name="web")),
        ({"port": "0", "protocol": "GRE"}, PortRange(47)),
    ],
)
def test_ports(port: dict[str, Any], wanted: PortRange) -> None:
    """Text numbers, any protocol by default, 0 for all, ranges, names."""
    assert rule({"toPorts": [{"ports": [port]}]}).ports == (wanted,)


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ({"type": 8}, PortRange(1, 8, 8, family_icmp=True)),
        ({"type": 0}, PortRange(1, 0, 0, family_icmp=True)),
        ({"type": "EchoRequest"}, PortRange(1, 8, 8, family_icmp=True)),
        ({"type": "EchoRequest", "family": "IPv6"}, PortRange(58, 128, 128, family_icmp=True)),
        ({"type": "8"}, PortRange(1, 8, 8, family_icmp=True)),
    ],
)
def test_icmp(field: dict[str, Any], wanted: PortRange) -> None:
    """Types by number or name, IPv4 by default."""
    assert rule({"icmps": [{"fields": [field]}]}).ports == (wanted,)


def test_specs() -> None:
    """``specs`` is a list of specs; rules name the item that they come from."""
    body = policy(ingress=[{}])
    body["specs"] = [body.pop("spec"), {"endpointSelector": {}, "egressDeny": [{}]}]
    rules = decode(body)
    assert [r.origin.path for r in rules] == ["specs[0].ingress[0]", "specs[1].egressDeny[0]"]
    assert [r.deny for r in rules] == [False, True]


def test_entities() -> None:
    """``all`` has no term, ``none`` is nobody, ``cluster`` leaves the world out."""
    words = ["all", "none", "world", "cluster", "remote-node"]
    found = [tuple(map(peer_text, rule({"fromEntities": [w]}).selectors)) for w in words]
    assert found[:3] == [("everybody",), ("reserved:none",), ("reserved:world",)]
    assert "reserved:world" not in found[3] and NAMESPACE in found[3]
    assert found[4] == ("reserved:remote-node",)


HTTP = {"http": [{"method": "GET"}]}
PORT = {"ports": [{"port": "80", "protocol": "TCP"}]}
LISTENER = {"name": "x", "envoyConfig": {"kind": "CiliumEnvoyConfig", "name": "c"}}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"ingress": [{"toPorts": [{**PORT, "rules": HTTP}]}]}, "spec.ingress[0].toPorts[0].rules"),
        (
            {"egress": [{"toPorts": [{**PORT, "serverNames": ["a.b"]}]}]},
            "spec.egress[0].toPorts[0].serverNames",
        ),
        (
            {"egress": [{"toPorts": [{**PORT, "listener": LISTENER}]}]},
            "spec.egress[0].toPorts[0].listener",
        ),
        ({"egress": [{"toGroups": []}]}, "spec.egress[0].toGroups"),
        (
            {"ingress": [{"fromEndpoints": [{}], "authentication": {"mode": "required"}}]},
            "spec.ingress[0].authentication.mode",
        ),
    ],
)
def test_what_nothing_enforces_is_refused_and_locks(spec: dict[str, Any], field: str) -> None:
    """A valid field that is not enforced names itself, and its subjects could be locked.

    Never a silent allow: an unresolved ``toGroups`` selects nobody (CVE-2025-64715), an L7 rule
    does not decay to an L4 allow.
    """
    with pytest.raises(UnenforceableError) as caught:
        decode(policy(**spec))
    assert caught.value.field == field
    [locked] = caught.value.lockdown
    assert locked.selectors == () and locked.default_deny and not locked.deny
    assert locked.direction.value in spec


def test_node_selector() -> None:
    """``nodeSelector`` selects the node itself, by its labels; no other selector does."""
    body = policy(clusterwide=True, ingress=[{}])
    body["spec"]["nodeSelector"] = {"matchLabels": {"role": "edge"}}
    del body["spec"]["endpointSelector"]
    assert [peer_text(r.subject) for r in decode(body)] == ["node:role=edge, reserved:host"]
    everybody = policy(clusterwide=True, ingress=[{}])
    everybody["spec"]["endpointSelector"] = {}
    assert [peer_text(r.subject) for r in decode(everybody)] == ["!reserved:host"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"endpointSelector": None, "ingress": [{}]}, "spec.endpointSelector"),
        ({"nodeSelector": {}, "ingress": [{}]}, "spec.nodeSelector"),
        ({}, "spec"),
        ({"ingress": None}, "spec.ingress"),
        ({"ingress": {}}, "spec.ingress"),
        ({"ingress": "x"}, "spec.ingress"),
        ({"ingress": [None]}, "spec.ingress[0]"),
        ({"ingress": [{"fromEndpoints": None}]}, "spec.ingress[0].fromEndpoints"),
        ({"ingress": [{"fromEndpoint": []}]}, "spec.ingress[0].fromEndpoint"),
        ({"ingress": [{"toEndpoints": []}]}, "spec.ingress[0].toEndpoints"),
        ({"ingress": [{"fromEndpoints": [{}], "fromCIDR": []}]}, "spec.ingress[0]"),
        ({"ingress": [{"toPorts": [PORT], "icmps": []}]}, "spec.ingress[0]"),
        ({"ingress": [{"toPorts": [{}]}]}, "spec.ingress[0].toPorts[0].ports"),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "70000"}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].port",
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": 80}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].port",
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "-1"}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].port",
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "a_b"}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].port",
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "80", "endPort": 70}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].endPort",
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "0", "endPort": 70}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].endPort",
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "80", "protocol": "XDP"}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].protocol",
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "80"}] * 41}]}]},
            "spec.ingress[0].toPorts[0].ports",
        ),
        (
            {"egress": [{"toPorts": [{**PORT, "serverNames": []}]}]},
            "spec.egress[0].toPorts[0].serverNames",
        ),
        (
            {"egress": [{"toPorts": [{**PORT, "serverNames": None}]}]},
            "spec.egress[0].toPorts[0].serverNames",
        ),
        ({"ingress": [{"icmps": [{"fields": []}]}]}, "spec.ingress[0].icmps[0].fields"),
        (
            {"ingress": [{"icmps": [{"fields": [{"type": 256}]}]}]},
            "spec.ingress[0].icmps[0].fields[0].type",
        ),
        (
            {"ingress": [{"icmps": [{"fields": [{"type": "Ping"}]}]}]},
            "spec.ingress[0].icmps[0].fields[0].type",
        ),
        ({"ingress": [{"fromEntities": ["everyone"]}]}, "spec.ingress[0].fromEntities[0]"),
        ({"ingress": [{"fromCIDR": ["10.0.0.0/40"]}]}, "spec.ingress[0].fromCIDR[0]"),
        ({"ingress": [{"fromCIDR": ["fe80::1%eth0"]}]}, "spec.ingress[0].fromCIDR[0]"),
        ({"ingress": [{"fromCIDR": ["::ffff:10.0.0.0/104"]}]}, "spec.ingress[0].fromCIDR[0]"),
        (
            {"ingress": [{"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["9.0.0.0/9"]}]}]},
            "spec.ingress[0].fromCIDRSet[0].except[0]",
        ),
        ({"ingress": [{"fromCIDRSet": [{}]}]}, "spec.ingress[0].fromCIDRSet[0]"),
        (
            {"ingressDeny": [{"toPorts": [{**PORT, "rules": HTTP}]}]},
            "spec.ingressDeny[0].toPorts[0].rules",
        ),
        ({"egressDeny": [{"toFQDNs": []}]}, "spec.egressDeny[0].toFQDNs"),
        (
            {"ingress": [{}], "enableDefaultDeny": {"ingress": "no"}},
            "spec.enableDefaultDeny.ingress",
        ),
        ({"ingress": [{}], "log": {"value": "x" * 33}}, "spec.log.value"),
        (
            {"endpointSelector": {"matchLabels": {"a": 1}}, "ingress": [{}]},
            "spec.endpointSelector.matchLabels.a",
        ),
        (
            {"endpointSelector": {"matchLabels": {":a": "1"}}, "ingress": [{}]},
            "spec.endpointSelector.matchLabels.:a",
        ),
        (
            {
                "endpointSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]},
                "ingress": [{}],
            },
            "spec.endpointSelector.matchExpressions[0].operator",
        ),
        ({"ingress": [{}], "hostNetwork": True}, "spec.hostNetwork"),
    ],
)
def test_bad_fields_are_named(spec: dict[str, Any], field: str) -> None:
    """A policy with a bad value is refused with the path of the field."""
    with pytest.raises(InvalidObjectError) as caught:
        decode(policy(**spec))
    assert caught.value.field == field
    assert not isinstance(caught.value, UnenforceableError)


def test_plain_mistakes_are_named_before_what_is_not_enforced() -> None:
    """A policy that is both wrong and ahead of us is wrong: nothing gets locked by it."""
    items = [{"toGroups": [{}]}, {"toEntities": ["nobody"]}]
    with pytest.raises(InvalidObjectError) as caught:
        decode(policy(egress=items))
    assert caught.value.field == "spec.egress[1].toEntities[0]"
    assert not isinstance(caught.value, UnenforceableError)
