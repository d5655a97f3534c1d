"""Hypothesis strategies: small worlds in which everything meets everything."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from hypothesis import strategies as st

from axoneme.plugins.policy.tests.policy_reference import Pod

NAMESPACES = {"red": {"team": "a"}, "blue": {"team": "b"}}
NAMED = {"web": ("TCP", 80), "dns": ("UDP", 53)}

PODS = [
    Pod(namespace, f"{app}-{tier}", labels, NAMESPACES[namespace], ports)
    for namespace in NAMESPACES
    for app, tier, ports in (("x", "1", NAMED), ("y", "1", {}), ("x", "2", {"web": ("TCP", 81)}))
    for labels in [{"app": app, "tier": tier}]
]
ADDRESSES = [
    ip_address(a)
    for a in ("10.1.1.1", "10.1.2.1", "10.2.0.1", "192.0.2.9", "fd00:1::1", "fd00:2::1")
]
PEERS = [*PODS, *ADDRESSES, "host", "remote-node"]
PACKETS = [
    *(("TCP", p) for p in (1, 79, 80, 81, 443, 8080)),
    *(("UDP", p) for p in (53, 80)),
    ("SCTP", 80),
    ("ICMP", 0),
    ("ICMP", 8),
    ("ICMPv6", 128),
]

_CIDRS = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "::/0"]
_CIDRS += ["fd00:1::/32", "fd00:1::1/128"]
_INNER = {
    "0.0.0.0/0": ["10.0.0.0/8", "10.1.1.0/24", "192.0.2.0/24"],
    "10.0.0.0/8": ["10.1.0.0/16", "10.1.1.1/32", "10.2.0.0/16"],
    "10.1.0.0/16": ["10.1.1.0/24", "10.1.2.0/24"],
    "::/0": ["fd00:1::/32"],
}


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def _drop_none(value: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in value.items() if v is not None}


def _selectors(prefix: str) -> st.SearchStrategy[dict[str, Any]]:
    labels = st.dictionaries(
        st.sampled_from([f"{prefix}app", f"{prefix}tier"]), st.sampled_from("xy12"), max_size=1
    )
    listed = st.fixed_dictionaries(
        {
            "key": st.sampled_from([f"{prefix}app", f"{prefix}tier", f"{prefix}none"]),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from("xy12"), min_size=1, max_size=2),
        }
    )
    bare = st.fixed_dictionaries(
        {
            "key": st.sampled_from([f"{prefix}app", f"{prefix}none"]),
            "operator": st.sampled_from(["Exists", "DoesNotExist"]),
        }
    )
    return st.fixed_dictionaries(
        {
            "matchLabels": _maybe(labels),
            "matchExpressions": _maybe(st.lists(listed | bare, max_size=1)),
        }
    ).map(_drop_none)


_NAMESPACE_SELECTORS = st.sampled_from(
    [
        {},
        {"matchLabels": {"team": "a"}},
        {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]},
        {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]},
    ]
)
_CIDR_SETS = st.sampled_from(_CIDRS).flatmap(
    lambda cidr: st.lists(st.sampled_from(_INNER.get(cidr, [cidr])), max_size=2).map(
        lambda cut: {"cidr": cidr, "except": cut}
    )
)

# Kubernetes

_K8S_PEER = (
    st.fixed_dictionaries({"podSelector": _selectors("")})
    | st.fixed_dictionaries({"namespaceSelector": _NAMESPACE_SELECTORS})
    | st.fixed_dictionaries(
        {"namespaceSelector": _NAMESPACE_SELECTORS, "podSelector": _selectors("")}
    )
    | st.fixed_dictionaries({"ipBlock": _CIDR_SETS})
)
_K8S_PORT = st.sampled_from(
    [
        {},
        {"protocol": "UDP"},
        {"port": 80},
        {"port": 79, "endPort": 81},
        {"port": 1, "endPort": 65535, "protocol": "SCTP"},
        {"port": "web"},
        {"port": "dns", "protocol": "UDP"},
    ]
)


def _k8s_item(word: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            word: _maybe(st.lists(_K8S_PEER, max_size=2)),
            "ports": _maybe(st.lists(_K8S_PORT, max_size=2)),
        }
    ).map(_drop_none)


_K8S_SPEC = st.fixed_dictionaries(
    {
        "podSelector": _selectors(""),
        "ingress": _maybe(st.lists(_k8s_item("from"), max_size=2)),
        "egress": _maybe(st.lists(_k8s_item("to"), max_size=2)),
        "policyTypes": _maybe(
            st.lists(st.sampled_from(["Ingress", "Egress"]), min_size=1, max_size=2, unique=True)
        ),
    }
).map(_drop_none)

# Cilium

_ENTITIES = ["all", "world", "cluster", "host", "remote-node", "none"]
_ENTITIES += ["world-ipv4", "world-ipv6"]
_TEAM = "io.cilium.k8s.namespace.labels.team"
_NAMESPACE = "io.kubernetes.pod.namespace"
# Absent labels, which everybody lacks who is no pod.
_LACKING = [
    {"matchExpressions": [{"key": key, "operator": "NotIn", "values": ["a", "blue"]}]}
    for key in (_TEAM, f"k8s:{_TEAM}", _NAMESPACE, f"k8s:{_NAMESPACE}", "container:x")
] + [
    {"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]}
    for key in (_TEAM, "gen:x", "reserved:init")
]
_CILIUM_SELECTOR = (
    _selectors("")
    | _selectors("k8s:")
    | st.sampled_from(
        [
            {},
            {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "blue"}},
            {"matchLabels": {"reserved:host": ""}},
            {"matchExpressions": [{"key": "reserved:world", "operator": "Exists"}]},
            *_LACKING,
        ]
    )
)
_CILIUM_PORT = st.sampled_from(
    [
        {"port": "80"},
        {"port": "80", "protocol": "ANY"},
        {"port": "80", "protocol": "TCP"},
        {"port": "0", "protocol": "UDP"},
        {"port": "0"},
        {"port": "79", "endPort": 8080, "protocol": "TCP"},
        {"port": "web"},
        {"port": "dns", "protocol": "UDP"},
    ]
)
_PORTS = st.lists(
    st.fixed_dictionaries({"ports": st.lists(_CILIUM_PORT, min_size=1, max_size=2)}),
    min_size=1,
    max_size=2,
).map(lambda ports: {"toPorts": ports})
_ICMPS = st.lists(
    st.sampled_from([{"type": 8}, {"type": 0}, {"type": 128, "family": "IPv6"}]),
    min_size=1,
    max_size=2,
).map(lambda fields: {"icmps": [{"fields": fields}]})


def _cilium_item(word: str) -> st.SearchStrategy[dict[str, Any]]:
    peers: st.SearchStrategy[dict[str, Any]] = (
        st.just({})
        | st.lists(_CILIUM_SELECTOR, max_size=2).map(lambda v: {f"{word}Endpoints": v})
        | st.lists(st.sampled_from(_ENTITIES), max_size=2).map(lambda v: {f"{word}Entities": v})
        | st.lists(st.sampled_from(_CIDRS), max_size=2).map(lambda v: {f"{word}CIDR": v})
        | st.lists(_CIDR_SETS, max_size=2).map(lambda v: {f"{word}CIDRSet": v})
    )
    return st.tuples(peers, st.just({}) | _PORTS | _ICMPS).map(lambda two: {**two[0], **two[1]})


def _collide(spec: dict[str, Any]) -> dict[str, Any]:
    """Sometimes deny the very peers of an allow, on every port: what precedence is about."""
    if not spec.pop("collide"):
        return spec
    for word in ("ingress", "egress"):
        for item in spec.get(word, [])[:1]:
            peers = {k: v for k, v in item.items() if k not in ("toPorts", "icmps")}
            if peers and len(peers) < len(item):
                spec[f"{word}Deny"] = [peers]
    return spec


_CILIUM_SPEC = (
    st.fixed_dictionaries(
        {
            "endpointSelector": _selectors("") | st.just({}),
            "ingress": _maybe(st.lists(_cilium_item("from"), max_size=2)),
            "ingressDeny": _maybe(st.lists(_cilium_item("from"), max_size=1)),
            "egress": _maybe(st.lists(_cilium_item("to"), max_size=2)),
            "egressDeny": _maybe(st.lists(_cilium_item("to"), max_size=1)),
            "enableDefaultDeny": _maybe(
                st.dictionaries(st.sampled_from(["ingress", "egress"]), st.booleans(), min_size=1)
            ),
            "collide": st.booleans(),
        }
    )
    .map(_drop_none)
    .map(_collide)
    .filter(lambda s: any(s.get(k) for k in ("ingress", "ingressDeny", "egress", "egressDeny")))
)


def _manifest(index: int, kind: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": f"p{index}"}
    if kind != "CiliumClusterwideNetworkPolicy":
        metadata["namespace"] = namespace
    group = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "cilium.io/v2"
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec}


def policies(index: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """One policy of any kind, named ``p<index>``."""
    names = st.sampled_from(list(NAMESPACES))
    kinds = st.sampled_from(["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"])
    return st.builds(
        lambda ns, spec: _manifest(index, "NetworkPolicy", ns, spec), names, _K8S_SPEC
    ) | st.builds(lambda k, ns, spec: _manifest(index, k, ns, spec), kinds, names, _CILIUM_SPEC)


def policy_lists(most: int = 4) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Some policies with different names."""
    return st.integers(0, most).flatmap(
        lambda n: st.tuples(*(policies(i) for i in range(n))).map(list)
    )
