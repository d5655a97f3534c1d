"""The core's keys of where processes run: an agent in a container, the operator, their ports."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from axoneme.core.config import OptionRegistry


def register(options: OptionRegistry) -> None:
    """Declare them; part of :func:`axoneme.core.options.register`."""
    _container(options)
    _operator(options)


def _container(options: OptionRegistry) -> None:
    """What an agent in a container needs to know of the host around it."""
    add = options.add
    add(
        "procfs",
        "string",
        "/proc",
        "Where the host's sysctls can be written: a container's own /proc/sys cannot",
        component="agent",
    )
    add(
        "write-cni-conf-when-ready",
        "string",
        "",
        "File for the CNI configuration, written once pods can be connected",
        component="agent",
    )
    add(
        "cni-exclusive",
        "bool",
        False,
        "Rename the CNI configurations of others beside it, so that none of them comes first",
        component="agent",
        helm="cni.exclusive",
    )
    add(
        "cni-uninstall",
        "bool",
        False,
        "Remove the CNI configuration when the agent's pod is stopped: set it before an uninstall",
        component="agent",
        helm="cni.uninstall",
    )


def _operator(options: OptionRegistry) -> None:
    def duration(key: str, default: str, text: str, helm: str = "", least: float = 0) -> None:
        options.add(key, "duration", default, text, component="operator", helm=helm, min=least)

    duration(
        "identity-gc-interval",
        "15m0s",
        "Time between collections of unused identities",
        "operator.identityGCInterval",
    )
    duration(
        "identity-heartbeat-timeout",
        "30m0s",
        "Time without use after which an identity is collected",
        "operator.identityHeartbeatTimeout",
        1,
    )
    duration(
        "cilium-endpoint-gc-interval",
        "5m0s",
        "Time between collections of CiliumEndpoints without a pod",
        "operator.endpointGCInterval",
    )
    duration(
        "nodes-gc-interval",
        "5m0s",
        "Time between collections of CiliumNodes without a node",
        "operator.nodeGCInterval",
    )
    options.add(
        "enable-metrics",
        "bool",
        False,
        "Serve the operator's metrics",
        component="operator",
        helm="operator.prometheus.enabled",
    )
    options.add(
        "operator-prometheus-serve-addr",
        "string",
        ":9963",
        "Address of the operator's metrics, IP:PORT or :PORT",
        component="operator",
        validate=listen_address,
        helm="operator.prometheus.port",
    )
    options.add(
        "operator-api-serve-addr",
        "string",
        "localhost:9234",
        "Address of the operator's /healthz; none when empty",
        component="operator",
        validate=listen_address,
    )
    duration("leader-election-lease-duration", "15s", "Life of the leader's lease", least=1)
    duration("leader-election-renew-deadline", "10s", "Time to renew the lease in", least=0.1)
    duration("leader-election-retry-period", "2s", "Time between tries for the lease", least=0.1)


def split_address(text: str) -> tuple[str, int]:
    """``:9962`` -> ``("", 9962)``, ``[::1]:80`` -> ``("::1", 80)``; ``ValueError`` when bad."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(text)
    if host and host != "localhost":
        ip_address(host)
    return host, int(port)


def listen_address(text: Any) -> str | None:
    """What is expected instead, unless it is an address to listen on."""
    if not text:
        return None
    try:
        split_address(text)
    except ValueError:
        return "an address such as :9962 or 127.0.0.1:9962"
    return None
