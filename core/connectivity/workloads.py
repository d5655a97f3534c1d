"""What runs during a test, the same in a lab and in a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

NAMESPACE: Final = "axoneme-test"
PROBE: Final = "/opt/axoneme/probe"
"""Folder of responder, prober and name server in the image."""
ZONE: Final = "test.axoneme.io"

PODS: Final[Mapping[str, tuple[int, dict[str, str], tuple[str, ...]]]] = {
    "client": (0, {"kind": "client", "name": "client"}, ()),
    "client2": (0, {"kind": "client", "name": "client2", "other": "client"}, ()),
    "client3": (1, {"kind": "client", "name": "client3", "third": "client"}, ()),
    "echo-same": (0, {"kind": "echo", "name": "echo-same"}, ("TCP:8080", "UDP:8081", "TCP:9090")),
    "echo-other": (1, {"kind": "echo", "name": "echo-other"}, ("TCP:8080", "UDP:8081", "TCP:9090")),
    "dns": (1, {"kind": "dns", "name": "dns"}, ("UDP:53", "TCP:53")),
}
"""Name: index of its node, labels, ports."""


def documents(nodes: tuple[str, ...], image: str, outside: Mapping[int, str]) -> list[Any]:
    """Namespace, pods and services; with one node everything is on it."""
    found: list[Any] = [meta("v1", "Namespace", NAMESPACE, namespace="")]
    for name, (index, labels, ports) in PODS.items():
        node = nodes[min(index, len(nodes) - 1)]
        found.append(_pod(name, node, labels, ports, image, outside))
    return found + _services()


def _pod(
    name: str,
    node: str,
    labels: dict[str, str],
    ports: tuple[str, ...],
    image: str,
    outside: Mapping[int, str],
) -> Any:
    python = ["/usr/bin/python3", "-ISE"]
    body = meta("v1", "Pod", name, labels=labels)
    container: dict[str, Any] = {"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"}
    if name == "dns":
        zone = {ZONE: list(outside.values()), f"other.{ZONE}": list(outside.values())}
        answers = json.dumps({k: v for k, v in zone.items() if v} or {ZONE: ["192.0.2.1"]})
        container["command"] = [*python, f"{PROBE}/nameserver", answers]
        body["metadata"]["annotations"] = {"lab.axoneme.io/command": f"nameserver '{answers}'"}
    else:
        info = json.dumps({"pod": name})
        container["command"] = [*python, f"{PROBE}/responder", info, *(ports or ("TCP:8080",))]
    container["ports"] = [
        {"containerPort": int(p.split(":")[1]), "protocol": p.split(":")[0], "name": port_name(p)}
        for p in ports
    ]
    # Labs and clusters have it declared; the limits keep a broken test from harming a node.
    container["resources"] = {"limits": {"memory": "128Mi"}}
    body["spec"] = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "automountServiceAccountToken": False,
        "containers": [container],
    }
    return body


def port_name(text: str) -> str:
    """A named port for policies: ``web``, ``echo``, ``admin``, ``dns``."""
    protocol, number = text.split(":")
    known = {"8080": "web", "8081": "echo", "9090": "admin"}
    return known.get(number, f"dns-{protocol.lower()}")


def _services() -> list[Any]:
    ports = [
        {"name": "web", "port": 80, "targetPort": 8080},
        {"name": "echo", "port": 81, "targetPort": 8081, "protocol": "UDP"},
    ]
    node = [{"name": "web", "port": 80, "targetPort": 8080, "nodePort": 31980}]
    local = [{"name": "web", "port": 80, "targetPort": 8080, "nodePort": 31981}]
    sticky = {"sessionAffinity": "ClientIP"}
    return [
        _service("echo", {"kind": "echo"}, ports),
        _service("only-same", {"name": "echo-same"}, ports),
        _service("only-other", {"name": "echo-other"}, ports),
        _service("sticky", {"kind": "echo"}, ports, **sticky),
        _service("nobody", {"kind": "nobody"}, ports),
        _service("echo-node", {"kind": "echo"}, node, type="NodePort"),
        _service(
            "echo-local", {"name": "echo-other"}, local, type="NodePort",
            externalTrafficPolicy="Local",
        ),
    ]  # fmt: skip


def _service(name: str, selector: dict[str, str], ports: list[Any], **more: Any) -> Any:
    body = meta("v1", "Service", name)
    body["spec"] = {
        "selector": selector, "ports": ports, "ipFamilyPolicy": "PreferDualStack", **more,
    }  # fmt: skip
    return body


def meta(
    version: str,
    kind: str,
    name: str,
    *,
    namespace: str = NAMESPACE,
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The head of an object."""
    metadata: dict[str, Any] = {"name": name, **({"namespace": namespace} if namespace else {})}
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
