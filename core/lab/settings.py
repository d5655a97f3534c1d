"""The configuration of the lab's agents and operator: the user's keys over the lab's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from axoneme.core.errors import LabError
from axoneme.core.lab import cgroups
from axoneme.core.lab.model import Lab, LabNode
from axoneme.core.lab.paths import LIB_DIR, OPERATOR

POOL4: Final = "10.244.0.0/16"
POOL6: Final = "fd00:10:244::/48"

DEFAULT_POOL: Final = (
    f"default=ipv4-cidrs:{POOL4};ipv4-mask-size:27;ipv6-cidrs:{POOL6};ipv6-mask-size:64"
)
"""Of multi-pool IPAM."""

DEFAULTS: Final[Mapping[str, str]] = {
    "cluster-name": "lab",
    "enable-ipv4": "true",
    "enable-ipv6": "true",
    "devices": "eth0",
    "store": "folder",
    "cluster-pool-ipv4-cidr": POOL4,
    "cluster-pool-ipv4-mask-size": "24",
    "cluster-pool-ipv6-cidr": POOL6,
    "cluster-pool-ipv6-mask-size": "64",
    "enable-bpf-masquerade": "true",
    "kube-proxy-replacement": "true",
    "enable-ipv4-masquerade": "true",
    "enable-ipv6-masquerade": "true",
    # Labs share the machine's loopback.
    "operator-api-serve-addr": "",
    # Seconds of politeness towards a large cluster; here all nodes hear of an identity at once.
    "identity-change-grace-period": "100ms",
}

OWN: Final = frozenset(
    {"cgroup-root", "node-name", "state-dir", "store-path", "bpf-root", "socket-path"}
)
"""Keys that place a node; a lab cannot let users move them."""


def parse(settings: tuple[str, ...]) -> dict[str, str]:
    """Read ``key=value`` arguments of the command line."""
    parsed = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise LabError(f"--config {text!r}: not key=value")
        if key.strip() in OWN:
            raise LabError(f"--config {key.strip()}: the lab sets this key itself")
        parsed[key.strip()] = value.strip()
    return parsed


def cluster_config(user: Mapping[str, str]) -> dict[str, str]:
    """What all nodes have in common.

    Native routing needs to be told how the underlay routes; in the lab that is always known:
    all nodes share one link.
    """
    config = {**DEFAULTS, **user}
    if config.get("ipam") == "multi-pool":
        config.setdefault("auto-create-cilium-pod-ip-pools", DEFAULT_POOL)
    if config.get("routing-mode") == "native":
        config.setdefault("auto-direct-node-routes", "true")
        config.setdefault("ipv4-native-routing-cidr", config["cluster-pool-ipv4-cidr"])
        config.setdefault("ipv6-native-routing-cidr", config["cluster-pool-ipv6-cidr"])
    return config


def _server(lab: Lab) -> dict[str, str]:
    """How the lab's API server is reached, if there is one."""
    if lab.config.get("store") != "kubernetes":
        return {}
    return {
        "k8s-kubeconfig-path": str(lab.paths.root / "kubernetes" / "kubeconfig"),
        "k8s-client-qps": "500",
        "k8s-client-burst": "1000",
    }


def node_config(lab: Lab, node: LabNode) -> dict[str, str]:
    """The whole configuration of one agent."""
    paths = lab.paths
    return (
        cluster_config(lab.config)
        | _server(lab)
        | {
            "node-name": node.name,
            "state-dir": str(paths.node(node.name)),
            "socket-path": str(paths.socket(node.name)),
            "bpf-root": str(paths.bpf_root(node.name)),
            "lib-dir": str(LIB_DIR),
            "store-path": str(paths.store),
            "cgroup-root": str(cgroups.node(paths, node.name) or ""),
        }
    )


def operator_config(lab: Lab) -> dict[str, str]:
    """The whole configuration of the operator."""
    return (
        cluster_config(lab.config)
        | _server(lab)
        | {
            "state-dir": str(lab.paths.node(OPERATOR)),
            "store-path": str(lab.paths.store),
            "lib-dir": str(LIB_DIR),
        }
    )
