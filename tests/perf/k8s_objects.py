"""The objects of a made-up cluster as JSON text, by number: as large as in a real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

NODES: Final = 5_000
PODS: Final = 150_000
SERVICES: Final = 10_000
POLICIES: Final = 500
IDENTITIES: Final = 10_000
BACKENDS: Final = 10
"""Endpoints of each slice."""
NAMESPACES: Final = 100
MIN_IDENTITY: Final = 1000
LISTED: Final = 1_000_000
"""Version of what is there at the start."""

Maker = Callable[[int, int], str]
"""Number and resource version to text."""


def _fields(manager: str, count: int) -> list[dict[str, Any]]:
    """``managedFields``, about a quarter of a pod."""
    names = {f"f:field-number-{n}": {"f:name": {}, "f:value": {"f:x": {}}} for n in range(count)}
    return [
        {"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
         "time": "2026-01-01T00:00:00Z", "fieldsV1": names}
    ]  # fmt: skip


def _template(body: dict[str, Any]) -> Callable[[dict[str, str]], str]:
    """Text of a body in which ``@word@`` stands for what differs."""
    text = json.dumps(body, separators=(",", ":"))
    parts = text.split("@")

    def fill(words: dict[str, str]) -> str:
        pieces = parts.copy()
        pieces[1::2] = [words[p] for p in parts[1::2]]
        return "".join(pieces)

    return fill


def _meta(**more: Any) -> dict[str, Any]:
    return {
        "name": "@name@",
        "namespace": "ns-@ns@",
        "uid": "0b1e7f0a-52d4-4f5e-9c1d-@uid@",
        "resourceVersion": "@version@",
        "creationTimestamp": "2026-01-01T00:@minute@:@second@Z",
        **more,
    }


_LABELS: Final = {
    "app": "web-@app@",
    "pod-template-hash": "7d9c9c9c9c",
    "app.kubernetes.io/part-of": "shop",
    "tier": "front",
}
_CONTAINER: Final = {
    "image": "registry.example.org/team/component:v1.2.3",
    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
    "env": [{"name": f"VARIABLE_{n}", "value": "some value of it"} for n in range(10)],
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    "volumeMounts": [{"name": "api-access", "mountPath": "/var/run/secrets/k", "readOnly": True}],
    "terminationMessagePath": "/dev/termination-log",
    "imagePullPolicy": "IfNotPresent",
}
_SINCE: Final = {"lastProbeTime": None, "lastTransitionTime": "2026-01-01T00:00:00Z"}
_CONDITIONS: Final = [
    {"type": kind, "status": "True", **_SINCE}
    for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
]
_POD: Final = _template(
    {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": _meta(labels=_LABELS, managedFields=_fields("kubelet", 22)),
        "spec": {
            "nodeName": "node-1",
            "serviceAccountName": "default",
            "containers": [{"name": "a", **_CONTAINER}, {"name": "b", **_CONTAINER, "ports": []}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
        },
        "status": {"phase": "Running", "podIP": "@v4@", "podIPs": [{"ip": "@v4@"}, {"ip": "@v6@"}],
                   "conditions": _CONDITIONS},
    }
)  # fmt: skip
_ENDPOINT: Final = _template(
    {
        "kind": "CiliumEndpoint",
        "apiVersion": "cilium.io/v2",
        "metadata": _meta(
            labels=_LABELS,
            ownerReferences=[{"apiVersion": "v1", "kind": "Pod", "name": "@name@", "uid": "@uid@"}],
            managedFields=_fields("axoneme", 6),
        ),
        "status": {
            "id": 77,
            "identity": {
                "id": "@identity@",
                "labels": ["k8s:app=web-@app@", "k8s:io.kubernetes.pod.namespace=ns-@ns@"],
            },
            "networking": {
                "addressing": [{"ipv4": "@v4@", "ipv6": "@v6@"}],
                "node": "@node@",
            },
            "named-ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "state": "ready",
            "external-identifiers": {"k8s-namespace": "ns-@ns@", "k8s-pod-name": "@name@"},
        },
    }
)


def node_address(number: int) -> str:
    """Of the underlay."""
    return f"172.16.{number // 250}.{number % 250 + 1}"


def _pod_words(number: int, version: int) -> dict[str, str]:
    node, place = divmod(number, PODS // NODES)
    app = number % IDENTITIES
    shift = 0 if version == LISTED else 1 + version % 9000
    return {
        "name": f"web-{app}-7d9c9c9c9c-{number:06d}",
        "ns": str(app % NAMESPACES),
        "uid": f"{number:012d}",
        "version": str(version),
        "minute": f"{number // 60 % 60:02d}",
        "second": f"{number % 60:02d}",
        "app": str(app),
        "v4": f"10.{node >> 8}.{node & 255}.{place + 2}",
        "v6": f"fd00:{node:x}::{place + 2:x}",
        "node": node_address(node),
        "identity": str(MIN_IDENTITY + (app + shift) % IDENTITIES),
    }


def pod(number: int, version: int) -> str:
    """A Pod of 4.1 KB."""
    return _POD(_pod_words(number, version))


def endpoint(number: int, version: int) -> str:
    """A CiliumEndpoint with both families; another version has another identity."""
    text = _ENDPOINT(words := _pod_words(number, version))
    return text.replace(f'"id":"{words["identity"]}"', f'"id":{words["identity"]}')


def node(number: int, version: int) -> str:
    """A CiliumNode with a pod CIDR of each family."""
    spec = {
        "addresses": [{"type": "InternalIP", "ip": node_address(number)}],
        "ipam": {"podCIDRs": [f"10.{number >> 8}.{number & 255}.0/24", f"fd00:{number:x}::/64"]},
    }
    return _other("cilium.io/v2", "CiliumNode", f"node-{number}", "", version, {"spec": spec})


def identity(number: int, version: int) -> str:
    """A CiliumIdentity."""
    labels = {
        "k8s:app": f"web-{number}",
        "k8s:io.kubernetes.pod.namespace": f"ns-{number % NAMESPACES}",
    }
    more = {"security-labels": labels}
    return _other("cilium.io/v2", "CiliumIdentity", str(MIN_IDENTITY + number), "", version, more)


def namespace(number: int, version: int) -> str:
    """A Namespace."""
    return _other("v1", "Namespace", f"ns-{number}", "", version, {"spec": {}})


def service(number: int, version: int) -> str:
    """A ClusterIP."""
    address = f"10.96.{number // 250}.{number % 250 + 1}"
    spec = {
        "type": "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        "selector": {"app": f"web-{number}"},
    }
    space = f"ns-{number % NAMESPACES}"
    return _other("v1", "Service", f"web-{number}", space, version, {"spec": spec, "status": {}})


def endpoint_slice(number: int, version: int) -> str:
    """Ten ready endpoints of a service."""
    ends = [
        {"addresses": [f"10.{n >> 8}.{n & 255}.{number % 28 + 2}"], "nodeName": f"node-{n}",
         "conditions": {"ready": True, "serving": True, "terminating": False}}
        for n in ((number * BACKENDS + i) % NODES for i in range(BACKENDS))
    ]  # fmt: skip
    more = {
        "addressType": "IPv4",
        "endpoints": ends,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }
    labels = {"kubernetes.io/service-name": f"web-{number}"}
    space = f"ns-{number % NAMESPACES}"
    return _other("discovery.k8s.io/v1", "EndpointSlice", f"web-{number}-x", space, version, more,
                  labels)  # fmt: skip


def policy(number: int, version: int) -> str:
    """A CiliumNetworkPolicy: one app lets in another."""
    spec = {
        "endpointSelector": {"matchLabels": {"app": f"web-{number}"}},
        "ingress": [
            {"fromEndpoints": [{"matchLabels": {"app": f"web-{number + NAMESPACES}"}}],
             "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}]}
        ],
    }  # fmt: skip
    space = f"ns-{number % NAMESPACES}"
    return _other("cilium.io/v2", "CiliumNetworkPolicy", f"allow-{number}", space, version,
                  {"spec": spec})  # fmt: skip


def _other(
    api_version: str,
    kind: str,
    name: str,
    space: str,
    version: int,
    more: dict[str, Any],
    labels: dict[str, str] | None = None,
) -> str:
    meta = {"name": name, "uid": f"uid-{kind}-{name}", "resourceVersion": str(version),
            "labels": labels or {}, "creationTimestamp": "2026-01-01T00:00:00Z"}  # fmt: skip
    if space:
        meta["namespace"] = space
    body = {"apiVersion": api_version, "kind": kind, "metadata": meta, **more}
    return json.dumps(body, separators=(",", ":"))


MAKERS: Final[dict[str, tuple[Maker, int]]] = {
    "pods": (pod, 0),
    "ciliumendpoints": (endpoint, PODS),
    "ciliumnodes": (node, NODES),
    "ciliumidentities": (identity, IDENTITIES),
    "namespaces": (namespace, NAMESPACES),
    "services": (service, SERVICES),
    "endpointslices": (endpoint_slice, SERVICES),
    "ciliumnetworkpolicies": (policy, POLICIES),
}
"""By plural: how one is made, and how many there are at the start."""
