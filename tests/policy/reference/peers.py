"""Who a rule speaks of: entities, prefixes, groups, services, nodes, names; for each kind of policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .cluster import Address, Cluster, Node, Outside, Pod, inside
from .selectors import View, cilium_matches, kubernetes_matches, peer_labels, selects_endpoint

Peer = Pod | Node | Outside


def entity(cluster: Cluster, name: str, peer: Peer, address: Address, view: View) -> bool:
    """Whether an entity holds a peer (reference 2.2)."""
    reserved = {
        key for source, key in peer_labels(cluster, peer, view.local_node) if source == "reserved"
    }
    local_pod = isinstance(peer, Pod) and peer.cluster == cluster.settings.cluster_name
    match name:
        case "all":
            return True
        case "none":
            return False
        case "world":
            return isinstance(peer, Outside)
        case "world-ipv4" | "world-ipv6":
            return isinstance(peer, Outside) and address.version == int(name[-1])
        case "cluster":
            return local_pod or isinstance(peer, Node) or "kube-apiserver" in reserved
        case "cluster-mesh":
            return isinstance(peer, Pod) and not local_pod
    return name in reserved


def prefix(cluster: Cluster, cidr: str, peer: Peer, address: Address) -> bool:
    """A prefix means addresses outside the cluster, and nodes or pods where the match mode says so."""
    mode = cluster.settings.cidr_match_mode
    if isinstance(peer, Pod) and "pods" not in mode:
        return False
    if isinstance(peer, Node) and "nodes" not in mode:
        return False
    return inside(address, cidr)


def prefix_set(cluster: Cluster, item: dict[str, Any], peer: Peer, address: Address) -> bool:
    """An item of from/toCIDRSet: one of cidr, cidrGroupRef, cidrGroupSelector; less its exceptions."""
    if item.get("cidr"):
        cidrs: tuple[str, ...] = (item["cidr"],)
    elif item.get("cidrGroupRef"):
        cidrs = tuple(
            c
            for group in cluster.cidr_groups
            if group.name == item["cidrGroupRef"]
            for c in group.cidrs
        )
    else:
        selector = item.get("cidrGroupSelector")
        cidrs = tuple(
            c
            for g in cluster.cidr_groups
            if kubernetes_matches(selector, g.labels)
            for c in g.cidrs
        )
    if not any(prefix(cluster, cidr, peer, address) for cidr in cidrs):
        return False
    return not any(inside(address, cidr) for cidr in item.get("except") or ())


def service(
    cluster: Cluster, item: dict[str, Any], peer: Peer, address: Address, view: View
) -> bool:
    """An item of toServices: the pods of a service's selector, or the addresses of one without."""
    by_name, by_labels = item.get("k8sService"), item.get("k8sServiceSelector")
    wanted = by_name or by_labels or {}
    namespace = wanted.get("namespace") or view.namespace
    for known in cluster.services:
        if namespace and known.namespace != namespace:
            continue
        if by_name and known.name != by_name["serviceName"]:
            continue
        if by_labels and not kubernetes_matches(by_labels["selector"], known.labels):
            continue
        if known.selector:
            workload = (
                isinstance(peer, Pod) and not peer.reserved and peer.namespace == known.namespace
            )
            if workload and isinstance(peer, Pod) and known.selector.items() <= peer.labels.items():
                return True
        elif address in known.endpoints and prefix(cluster, f"{address}", peer, address):
            return True
    return False


def node(cluster: Cluster, selector: dict[str, Any], peer: Peer, view: View) -> bool:
    """An item of from/toNodes: other nodes by their labels, never a pod that carries the same ones."""
    if not isinstance(peer, Node) or peer.name == view.local_node:
        return False
    return cilium_matches(selector, peer_labels(cluster, peer, view.local_node))


def fqdn(cluster: Cluster, item: dict[str, Any], peer: Peer, address: Address) -> bool:
    """An item of toFQDNs: outside addresses that were learnt for a matching name."""
    return isinstance(peer, Outside) and any(
        address in addresses and name_matches(item, name)
        for name, addresses in cluster.names.items()
    )


def name_matches(item: dict[str, Any], name: str) -> bool:
    """matchName as it is; in matchPattern ``*`` stays in one label, ``**.`` leads whole labels, ``*`` is all."""
    name = name.lower().rstrip(".")
    if item.get("matchName"):
        return bool(name == item["matchName"].lower().rstrip("."))
    return re.fullmatch(pattern(item["matchPattern"]), name) is not None


def pattern(text: str) -> str:
    """A matchPattern as a regular expression over names without a trailing dot."""
    text = text.lower().rstrip(".")
    if text == "*":
        return ".*"
    head = ""
    if text.startswith("**."):
        head, text = r"([-a-z0-9_]+\.)+", text[3:]
    return head + "".join("[-a-z0-9_]*" if char == "*" else re.escape(char) for char in text)


def cilium_peers(
    cluster: Cluster, rule: dict[str, Any], peer: Peer, address: Address, view: View
) -> bool | None:
    """Whether the L3 part of a rule selects the peer; None when the rule has no L3 part."""
    tests: dict[str, Callable[[Any], bool]] = {
        "Endpoints": lambda item: selects_endpoint(cluster, item, peer, view),
        "Entities": lambda item: entity(cluster, item, peer, address, view),
        "CIDR": lambda item: prefix(cluster, item, peer, address),
        "CIDRSet": lambda item: prefix_set(cluster, item, peer, address),
        "Services": lambda item: service(cluster, item, peer, address, view),
        "Nodes": lambda item: node(cluster, item, peer, view),
        "FQDNs": lambda item: fqdn(cluster, item, peer, address),
    }
    given = [
        (test, rule[side + field])
        for field, test in tests.items()
        for side in ("from", "to")
        if rule.get(side + field) is not None
    ]
    if not given:
        return None
    return any(test(item) for test, items in given for item in items)


def network_policy_peer(
    cluster: Cluster, item: dict[str, Any], peer: Peer, address: Address, namespace: str
) -> bool:
    """A NetworkPolicyPeer: ipBlock, or pods of the own namespace or of selected ones."""
    block = item.get("ipBlock")
    if block is not None:
        return prefix_set(cluster, block, peer, address)
    if not isinstance(peer, Pod) or peer.reserved:
        return False
    if cluster.settings.default_local_cluster and peer.cluster != cluster.settings.cluster_name:
        return False
    if item.get("namespaceSelector") is None:
        right_namespace = peer.namespace == namespace
    else:
        right_namespace = kubernetes_matches(
            item["namespaceSelector"], cluster.namespace_labels(peer.namespace)
        )
    return right_namespace and kubernetes_matches(item.get("podSelector"), peer.labels)


def cluster_policy_pods(cluster: Cluster, item: dict[str, Any], pod: Pod) -> bool:
    """The ``namespaces`` or ``pods`` of a ClusterNetworkPolicy's subject or peer."""
    if pod.reserved:
        return False
    labels = cluster.namespace_labels(pod.namespace)
    if item.get("namespaces") is not None:
        return kubernetes_matches(item["namespaces"], labels)
    pods = item.get("pods")
    return (
        pods is not None
        and kubernetes_matches(pods.get("namespaceSelector"), labels)
        and kubernetes_matches(pods.get("podSelector"), pod.labels)
    )


def cluster_policy_peer(
    cluster: Cluster, item: dict[str, Any], peer: Peer, address: Address
) -> bool:
    """A peer of a ClusterNetworkPolicy; its networks mean addresses in the cluster as well."""
    if item.get("networks"):
        return any(inside(address, cidr) for cidr in item["networks"])
    if item.get("nodes") is not None:
        return isinstance(peer, Node) and kubernetes_matches(item["nodes"], peer.labels)
    if item.get("domainNames"):
        wanted = [
            {"matchPattern": "*" + name if name.startswith("*") else name}
            for name in item["domainNames"]
        ]
        return any(fqdn(cluster, one, peer, address) for one in wanted)
    return isinstance(peer, Pod) and cluster_policy_pods(cluster, item, peer)
