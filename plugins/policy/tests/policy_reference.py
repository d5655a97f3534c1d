"""A reference for policy verdicts, written for reading, straight from the documents.

It reads manifests as they are and asks one question at a time: may this packet pass between this
subject and this peer? It shares no code with the decoders or the engine. Sources: Kubernetes API
reference, NetworkPolicy v1; reference.md §2.2 and §2.3 for Cilium's kinds.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

from attrs import Factory, frozen

IpAddress = IPv4Address | IPv6Address
Manifest = dict[str, Any]
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels"
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPv6": 58}


@frozen(eq=False)
class Pod:
    namespace: str
    name: str
    labels: dict[str, str]
    namespace_labels: dict[str, str] = Factory(dict)
    ports: dict[str, tuple[str, int]] = Factory(dict)  # name: (protocol, port)


Peer = Pod | IpAddress | str  # str: host, remote-node


def verdict(
    policies: list[Manifest], subject: Pod, direction: str, peer: Peer, packet: tuple[str, int]
) -> bool:
    """May ``peer`` send to (ingress) or receive from (egress) ``subject``? Mode ``default``.

    ``packet`` is a protocol and a destination port, or the type of an ICMP message.
    """
    proto, port = packet
    allowed = denied = enforced = False
    for policy in policies:
        for spec in _specs(policy):
            if not _selects_subject(policy, spec, subject):
                continue
            enforced |= _isolates(policy, spec, direction)
            for deny, item in _items(policy, spec, direction):
                ports_of = subject if direction == "ingress" else peer
                if _peer_in_item(policy, item, direction, peer) and _port_in_item(
                    policy, item, ports_of, proto, port
                ):
                    denied |= deny
                    allowed |= not deny
    if denied:  # a deny beats every allow, however specific
        return False
    if not enforced:  # nothing asks for default deny in this direction
        return True
    if direction == "ingress" and peer == "host":  # allow-localhost: the node reaches its pods
        return True
    return allowed


def _is_kubernetes(policy: Manifest) -> bool:
    return bool(policy["kind"] == "NetworkPolicy")


def _specs(policy: Manifest) -> list[Manifest]:
    return [policy["spec"]] if "spec" in policy else list(policy["specs"])


def _namespace(policy: Manifest) -> str:
    """Empty for a clusterwide policy."""
    return str(policy["metadata"].get("namespace", ""))


def _selects_subject(policy: Manifest, spec: Manifest, subject: Pod) -> bool:
    selector = spec["podSelector"] if _is_kubernetes(policy) else spec["endpointSelector"]
    if _namespace(policy) and subject.namespace != _namespace(policy):
        return False
    return _labels_match(selector, _plain(subject))


def _isolates(policy: Manifest, spec: Manifest, direction: str) -> bool:
    if _is_kubernetes(policy):
        default = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        return direction.capitalize() in spec.get("policyTypes", default)
    if not spec.get(direction) and not spec.get(f"{direction}Deny"):
        return bool(spec.get("enableDefaultDeny", {}).get(direction, False))
    return bool(spec.get("enableDefaultDeny", {}).get(direction, True))


def _items(policy: Manifest, spec: Manifest, direction: str) -> list[tuple[bool, Manifest]]:
    if _is_kubernetes(policy) and not _isolates(policy, spec, direction):
        return []
    allow = [(False, item) for item in spec.get(direction, [])]
    return allow + [(True, item) for item in spec.get(f"{direction}Deny", [])]


# Peers


def _peer_in_item(policy: Manifest, item: Manifest, direction: str, peer: Peer) -> bool:
    word = "from" if direction == "ingress" else "to"
    if _is_kubernetes(policy):
        peers = item.get(word, [])
        return not peers or any(_kubernetes_peer(policy, p, peer) for p in peers)
    stated = {k.removeprefix(word): v for k, v in item.items() if k.startswith(word)}
    stated.pop("Ports", None)
    if not stated:  # ports alone are about anybody; nothing at all is about nobody
        return bool(item.get("toPorts") or item.get("icmps"))
    [(field, values)] = stated.items()
    if field == "Endpoints":
        return any(_endpoint_peer(policy, v, peer) for v in values)
    if field == "Entities":
        return any(_entity(v, peer) for v in values)
    if field == "CIDR":
        return any(_in_cidr(v, [], peer) for v in values)
    assert field == "CIDRSet", field
    return any(_in_cidr(v["cidr"], v.get("except", []), peer) for v in values)


def _kubernetes_peer(policy: Manifest, stated: Manifest, peer: Peer) -> bool:
    if "ipBlock" in stated:
        block = stated["ipBlock"]
        return _in_cidr(block["cidr"], block.get("except", []), peer)
    if not isinstance(peer, Pod):
        return False
    if "namespaceSelector" in stated:
        if not _labels_match(stated["namespaceSelector"], peer.namespace_labels):
            return False
    elif peer.namespace != _namespace(policy):
        return False
    return _labels_match(stated.get("podSelector", {}), _plain(peer))


def _endpoint_peer(policy: Manifest, selector: Manifest, peer: Peer) -> bool:
    """Pods, unless the selector demands a reserved label.

    Without a namespace it means the policy's own one, or any in a clusterwide policy.
    """
    if not _demands_reserved(selector):
        if not isinstance(peer, Pod):
            return False
        keys = [*selector.get("matchLabels", {})]
        keys += [e["key"] for e in selector.get("matchExpressions", [])]
        stated = any("io.kubernetes.pod.namespace" in k or NAMESPACE_LABELS in k for k in keys)
        if _namespace(policy) and not stated and peer.namespace != _namespace(policy):
            return False
    return _labels_match(selector, _identity_labels(peer))


def _demands_reserved(selector: Manifest) -> bool:
    keys = [*selector.get("matchLabels", {})]
    expressions = selector.get("matchExpressions", [])
    keys += [e["key"] for e in expressions if e["operator"] in ("In", "Exists")]
    return any(k.startswith("reserved:") for k in keys)


def _identity_labels(peer: Peer) -> dict[str, str]:
    """Labels with their source."""
    if isinstance(peer, str):
        return {f"reserved:{peer}": ""}
    if not isinstance(peer, Pod):
        return {"reserved:world": "", f"reserved:world-ipv{peer.version}": ""}
    inherited = {f"{NAMESPACE_LABELS}.{k}": v for k, v in peer.namespace_labels.items()}
    return {f"k8s:{k}": v for k, v in {**_plain(peer), **inherited}.items()}


def _entity(word: str, peer: Peer) -> bool:
    if word == "all":
        return True
    if word.startswith("world"):
        return isinstance(peer, IPv4Address | IPv6Address) and word in (
            "world",
            f"world-ipv{peer.version}",
        )
    if word == "cluster":
        return isinstance(peer, Pod | str)
    return peer == word  # host, remote-node; none is nobody


def _in_cidr(cidr: str, excepts: list[str], peer: Peer) -> bool:
    """CIDR rules are about addresses outside the cluster only."""
    if not isinstance(peer, IPv4Address | IPv6Address):
        return False
    if peer not in ip_network(cidr):
        return False
    return not any(peer in ip_network(e) for e in excepts)


# Labels


def _plain(pod: Pod) -> dict[str, str]:
    return {**pod.labels, "io.kubernetes.pod.namespace": pod.namespace}


def _labels_match(selector: Manifest, labels: dict[str, str]) -> bool:
    def value(key: str) -> str | None:
        """Keys have a source or stand for any; so may labels."""
        if key in labels:
            return labels[key]
        key = key.removeprefix("any:")
        found = [v for k, v in labels.items() if ":" not in key and k.endswith(f":{key}")]
        return found[0] if found else labels.get(key.removeprefix("k8s:"))

    for key, wanted in selector.get("matchLabels", {}).items():
        if value(key) != wanted:
            return False
    for expression in selector.get("matchExpressions", []):
        found, values = value(expression["key"]), expression.get("values", [])
        holds = {
            "In": found is not None and found in values,
            "NotIn": found not in values,
            "Exists": found is not None,
            "DoesNotExist": found is None,
        }
        if not holds[expression["operator"]]:
            return False
    return True


# Ports


def _port_in_item(policy: Manifest, item: Manifest, pod: Peer, proto: str, port: int) -> bool:
    if _is_kubernetes(policy):
        ports = item.get("ports", [])
        return not ports or any(_port({"protocol": "TCP", **p}, pod, proto, port) for p in ports)
    ports = [p for group in item.get("toPorts", []) for p in group["ports"]]
    icmps = [f for group in item.get("icmps", []) for f in group["fields"]]
    if not ports and not icmps:
        return True
    return any(_port(p, pod, proto, port) for p in ports) or any(
        proto == {"IPv4": "ICMP", "IPv6": "ICMPv6"}[f.get("family", "IPv4")] and port == f["type"]
        for f in icmps
    )


def _port(stated: Manifest, pod: Peer, proto: str, port: int) -> bool:
    wanted = stated.get("protocol", "ANY")
    if wanted not in ("ANY", proto):
        return False
    value: Any = stated.get("port")
    if value in (None, "0"):
        return True
    if wanted == "ANY" and proto not in ("TCP", "UDP", "SCTP"):  # any that has ports
        return False
    if isinstance(value, str) and not value.isdigit():
        return isinstance(pod, Pod) and pod.ports.get(value) == (proto, port)
    return int(value) <= port <= int(stated.get("endPort", value))
