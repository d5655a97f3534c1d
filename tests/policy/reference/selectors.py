"""Label selectors: those of Kubernetes over plain labels, and Cilium's over labels with a source.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/ and
https://docs.cilium.io/en/stable/security/policy/language/ (endpoint selectors).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from .cluster import Cluster, Labels, Node, Outside, Pod

NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
POLICY_CLUSTER = "io.cilium.k8s.policy.cluster"
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
SOURCES = ("k8s", "reserved", "any", "cidr", "cidrgroup", "node", "fqdn")

Sourced = dict[tuple[str, str], str]
Get = Callable[[str], str | None]


@attrs.frozen
class View:
    """From where a policy looks: its namespace ("" for clusterwide ones) and the node of its subject."""

    namespace: str
    local_node: str


def kubernetes_matches(selector: dict[str, Any] | None, labels: Labels) -> bool:
    """A LabelSelector over plain labels; null and ``{}`` select everything."""
    return _matches(selector or {}, labels.get)


def cilium_matches(selector: dict[str, Any] | None, labels: Sourced) -> bool:
    """A LabelSelector whose keys may carry a source (``k8s:app``); without one any source will do."""

    def get(key: str) -> str | None:
        source, bare = split_key(key)
        if source != "any":
            return labels.get((source, bare))
        return next((value for (_, name), value in labels.items() if name == bare), None)

    return _matches(selector or {}, get)


def _matches(selector: dict[str, Any], get: Get) -> bool:
    return all(
        get(key) == value for key, value in (selector.get("matchLabels") or {}).items()
    ) and all(
        _holds(expression, get(expression["key"]))
        for expression in selector.get("matchExpressions") or ()
    )


def _holds(expression: dict[str, Any], value: str | None) -> bool:
    match expression["operator"]:
        case "In":
            return value is not None and value in expression["values"]
        case "NotIn":
            return value is None or value not in expression["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"operator {expression['operator']!r}")


def split_key(key: str) -> tuple[str, str]:
    """``k8s:app`` names a source, ``app`` means any."""
    source, colon, bare = key.partition(":")
    return (source, bare) if colon and source in SOURCES else ("any", key)


def keys(selector: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Every (source, key) that a selector names."""
    selector = selector or {}
    named = list(selector.get("matchLabels") or ())
    named += [expression["key"] for expression in selector.get("matchExpressions") or ()]
    return [split_key(key) for key in named]


def names_namespace(selector: dict[str, Any] | None) -> bool:
    """Whether the author has said which namespaces are meant."""
    return any(
        source in ("any", "k8s") and (key == NAMESPACE or key.startswith(NAMESPACE_LABELS))
        for source, key in keys(selector)
    )


def asks_for_reserved(selector: dict[str, Any] | None) -> bool:
    """Whether a reserved label must be there. That one is absent says nothing (CVE-2023-41333)."""
    selector = selector or {}
    named = list(selector.get("matchLabels") or ())
    named += [
        expression["key"]
        for expression in selector.get("matchExpressions") or ()
        if expression["operator"] in ("In", "Exists")
    ]
    return any(split_key(key)[0] == "reserved" for key in named)


def pod_labels(cluster: Cluster, pod: Pod) -> Sourced:
    """What a pod's identity is made of. A reserved endpoint has its reserved label alone."""
    if pod.reserved:
        return {("reserved", pod.reserved): ""}
    labels = {("k8s", key): value for key, value in pod.labels.items()}
    labels[("k8s", NAMESPACE)] = pod.namespace
    labels[("k8s", POLICY_CLUSTER)] = pod.cluster
    labels[("k8s", SERVICE_ACCOUNT)] = pod.service_account
    for key, value in cluster.namespace_labels(pod.namespace).items():
        labels[("k8s", NAMESPACE_LABELS + key)] = value
    return labels


def peer_labels(cluster: Cluster, peer: Pod | Node | Outside, local_node: str) -> Sourced:
    """The labels that an endpoint selector sees on any peer; ``local_node`` is the subject's."""
    if isinstance(peer, Pod):
        return pod_labels(cluster, peer)
    if isinstance(peer, Outside):
        labels: Sourced = {("reserved", "world"): ""}
        known = {peer.address}
    else:
        labels = {("reserved", "host" if peer.name == local_node else "remote-node"): ""}
        known = set(peer.addresses)
        if cluster.settings.node_selector_labels:
            labels |= {("node", key): value for key, value in peer.labels.items()}
    if known & cluster.settings.kube_apiserver:
        labels[("reserved", "kube-apiserver")] = ""
    return labels


def selects_endpoint(
    cluster: Cluster, selector: dict[str, Any] | None, peer: Pod | Node | Outside, view: View
) -> bool:
    """Whether an item of from/toEndpoints selects a peer.

    In a namespaced policy the namespace of the policy is meant unless the selector names namespaces itself.
    Only pods are endpoints, unless a reserved label is asked for: no expression gets out of that.
    """
    labels = peer_labels(cluster, peer, view.local_node)
    if asks_for_reserved(selector):
        return cilium_matches(selector, labels)
    if not isinstance(peer, Pod) or peer.reserved:
        return False
    if view.namespace and not names_namespace(selector) and peer.namespace != view.namespace:
        return False
    return _right_cluster(cluster, selector, peer) and cilium_matches(selector, labels)


def _right_cluster(cluster: Cluster, selector: dict[str, Any] | None, peer: Pod) -> bool:
    if not cluster.settings.default_local_cluster or any(
        key == POLICY_CLUSTER for _, key in keys(selector)
    ):
        return True
    return peer.cluster == cluster.settings.cluster_name
