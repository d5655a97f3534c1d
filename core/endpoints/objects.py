"""CiliumEndpoint objects of this node's endpoints (reference 2.1, ``cilium.io/v2``).

What policy says about an endpoint is the policy plugin's to know; it is asked through a service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from axoneme.core.model.endpoint import AddressPair, Endpoint
from axoneme.core.model.node import Node

KIND: Final = "CiliumEndpoint"
API_VERSION: Final = "cilium.io/v2"


class PolicyStatus(Protocol):
    """Provided by the policy plugin: the ``policy`` part of a CiliumEndpoint's status."""

    def status_of(self, identity: int) -> Mapping[str, Any]:
        """``{ingress: {enforcing, state}, egress: {…}}``."""
        ...

    def audits(self, endpoint: int) -> bool:
        """Whether what policy refuses to an endpoint, by id, is only told."""
        ...


def encode_metadata(endpoint: Endpoint, pod_uid: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Metadata; the Pod owns the object, so that it goes when the pod does."""
    metadata: dict[str, Any] = {"namespace": endpoint.namespace, "name": endpoint.pod}
    if labels:
        metadata["labels"] = dict(labels)
    if pod_uid:
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Pod", "name": endpoint.pod, "uid": pod_uid}
        ]
    return metadata


def encode_status(
    endpoint: Endpoint,
    node: Node | None,
    policy: Mapping[str, Any] | None,
    service_account: str = "",
) -> dict[str, Any]:
    """Status: everything that we know of it."""
    addressing = {f"ipv{a.version}": str(a) for a in AddressPair(endpoint.ipv4, endpoint.ipv6)}
    status: dict[str, Any] = {
        "id": endpoint.id,
        "state": str(endpoint.state),
        "identity": {"id": endpoint.identity, "labels": endpoint.labels.texts()},
        "networking": {"addressing": [addressing], "node": node_ip(node)},
        "external-identifiers": {
            "container-id": endpoint.attachment_id.rpartition(":")[0],
            "cni-attachment-id": endpoint.attachment_id,
            "k8s-pod-name": endpoint.pod,
            "k8s-namespace": endpoint.namespace,
            "pod-name": endpoint.name,
        },
        "health": _health(endpoint),
        "encryption": {},
    }
    if endpoint.named_ports:
        status["named-ports"] = [
            {"name": p.name, "port": p.port, "protocol": p.protocol} for p in endpoint.named_ports
        ]
    if policy:
        status["policy"] = dict(policy)
    if service_account:
        status["service-account"] = service_account
    return status


def node_ip(node: Node | None) -> str:
    """The address that an object names its node by; empty while it is not known."""
    if node is None:
        return ""
    return str(node.ipv4 or node.ipv6 or "")


def _health(endpoint: Endpoint) -> dict[str, Any]:
    ready = endpoint.state == "ready"
    word = "OK" if ready else "Pending"
    return {"bpf": word, "policy": word, "connected": ready, "overallHealth": word}
