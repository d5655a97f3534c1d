"""Rows as the API shows them: plain dicts whose keys scripts may rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from axoneme.core.model.endpoint import Endpoint
from axoneme.core.model.identity import Identity
from axoneme.core.model.ipcache import IpcacheEntry
from axoneme.core.model.node import Node
from axoneme.core.state.registry import plain


def enforcement(status: Mapping[str, Any] | None, *, audit: bool = False) -> tuple[str, str]:
    """``Enabled``, ``Disabled`` or ``Disabled (Audit)`` for ingress and egress."""
    enabled = "Disabled (Audit)" if audit else "Enabled"
    words = []
    for direction in ("ingress", "egress"):
        part = (status or {}).get(direction) or {}
        words.append(enabled if part.get("enforcing") else "Disabled")
    return words[0], words[1]


def endpoint_view(
    endpoint: Endpoint, policy: Mapping[str, Any] | None, *, audit: bool = False
) -> dict[str, Any]:
    """An endpoint. ``policy`` holds the words of :func:`enforcement` by direction."""
    words = enforcement(policy, audit=audit)
    return {
        "id": endpoint.id,
        "name": endpoint.name,
        "namespace": endpoint.namespace,
        "pod": endpoint.pod,
        "identity": endpoint.identity,
        "labels": endpoint.labels.texts(),
        "ipv4": str(endpoint.ipv4 or ""),
        "ipv6": str(endpoint.ipv6 or ""),
        "state": str(endpoint.state),
        "message": endpoint.message,
        "policy": {"ingress": words[0], "egress": words[1]},
        "policy-revision": endpoint.policy_revision,
        "attachment": endpoint.attachment_id,
        "interface": {
            "host": endpoint.ifname,
            "ifindex": endpoint.ifindex,
            "container": endpoint.container_ifname,
            "mac": endpoint.mac,
            "host-mac": endpoint.host_mac,
            "mtu": endpoint.mtu,
            "netns": endpoint.netns,
        },
        "named-ports": [plain(port) for port in endpoint.named_ports],
    }


def identity_view(identity: Identity, endpoints: int) -> dict[str, Any]:
    """An identity; ``refcount`` counts the endpoints of this node that have it."""
    return {
        "id": identity.id,
        "labels": identity.labels.texts(),
        "source": identity.source,
        "refcount": endpoints,
    }


def ip_view(entry: IpcacheEntry, labels: list[str]) -> dict[str, Any]:
    """An entry of the ipcache; ``host`` is the node behind it."""
    return {
        "prefix": str(entry.prefix),
        "identity": entry.identity,
        "labels": labels,
        "source": entry.source,
        "host": str(entry.node_ip or ""),
    }


def node_view(node: Node) -> dict[str, Any]:
    """A node."""
    return {
        "name": node.name,
        "local": node.local,
        "ipv4": str(node.ipv4 or ""),
        "ipv6": str(node.ipv6 or ""),
        "router-ipv4": str(node.router_ipv4 or ""),
        "router-ipv6": str(node.router_ipv6 or ""),
        "pod-cidrs": [str(cidr) for cidr in node.pod_cidrs],
    }
