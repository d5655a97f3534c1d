"""Decoders on anything at all: rules or our own error, in bounded time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.plugins.policy.decode.kinds import DECODERS, decode_object
from axoneme.plugins.policy.terms import compile_rule

WORDS = [
    *("endpointSelector", "nodeSelector", "podSelector", "namespaceSelector", "matchLabels"),
    *("matchExpressions", "key", "operator", "values", "ingress", "egress", "ingressDeny"),
    *("egressDeny", "from", "to", "fromEndpoints", "toEndpoints", "fromEntities", "toCIDR"),
    *("toCIDRSet", "cidr", "except", "ipBlock", "ports", "toPorts", "port", "endPort", "protocol"),
    *("icmps", "fields", "family", "type", "rules", "policyTypes", "specs", "spec"),
    *("enableDefaultDeny", "labels", "log", "value", "authentication", "mode", "toFQDNs"),
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["In", "Exists", "TCP", "ANY", "80", "0", "70000", "10.0.0.0/8", "::/0", "all", "IPv6", ":"]
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=25,
)
SPECS = st.dictionaries(st.sampled_from(WORDS), TREES, max_size=5)


@pytest.mark.parametrize("kind", DECODERS)
@settings(max_examples=300, deadline=1000, suppress_health_check=list(HealthCheck))
@given(body=st.dictionaries(st.sampled_from(["spec", "specs", "status"]), TREES | SPECS))
def test_rules_or_a_clear_refusal(kind: str, body: dict[str, Any]) -> None:
    """No input ends in another error than ours (CVE-2023-41332), and the message is one line."""
    namespace = "" if "wide" in kind else "red"
    obj = ClusterObject(ObjectKey(kind, namespace, "p"), "v", body=body)
    try:
        rules = decode_object(obj)
    except InvalidObjectError as error:
        assert str(error).isprintable()
        return
    for number, rule in enumerate(rules or ()):
        compile_rule(rule, number + 1)
