"""Options of cluster-pool IPAM, with Cilium's names and its chart's defaults."""

from __future__ import annotations

from axoneme.core.config import Config, OptionRegistry
from axoneme.core.errors import ConfigError

MAX_NODE_BITS = 24
"""A pool may be carved into 2^24 node blocks at most; more is surely a mistake."""


def register(options: OptionRegistry) -> None:
    """Declare ``cluster-pool-*``, and the value of ``ipam`` that switches this plugin on."""
    options.offer("ipam", "cluster-pool")
    options.add(
        "cluster-pool-ipv4-cidr",
        "cidrs4",
        "10.0.0.0/8",
        "IPv4 prefixes from which nodes get their pod CIDRs",
        helm="ipam.operator.clusterPoolIPv4PodCIDRList",
    )
    options.add(
        "cluster-pool-ipv4-mask-size",
        "int",
        24,
        "Prefix length of a node's IPv4 pod CIDR",
        min=1,
        max=30,
        helm="ipam.operator.clusterPoolIPv4MaskSize",
    )
    options.add(
        "cluster-pool-ipv6-cidr",
        "cidrs6",
        "fd00::/104",
        "IPv6 prefixes from which nodes get their pod CIDRs",
        helm="ipam.operator.clusterPoolIPv6PodCIDRList",
    )
    options.add(
        "cluster-pool-ipv6-mask-size",
        "int",
        120,
        "Prefix length of a node's IPv6 pod CIDR",
        min=1,
        max=126,
        helm="ipam.operator.clusterPoolIPv6MaskSize",
    )


def check(config: Config) -> None:
    """Refuse pools that no node block fits into."""
    for family in ("ipv4", "ipv6"):
        if not config[f"enable-{family}"]:
            continue
        prefixes = config[f"cluster-pool-{family}-cidr"] or ()
        size = config[f"cluster-pool-{family}-mask-size"]
        if not prefixes:
            raise ConfigError(
                f"key cluster-pool-{family}-cidr is empty but enable-{family} is true",
                hint=f"name a pool or set enable-{family}=false",
            )
        for prefix in prefixes:
            if not prefix.prefixlen <= size <= prefix.prefixlen + MAX_NODE_BITS:
                raise ConfigError(
                    f"key cluster-pool-{family}-mask-size: {size} does not fit {prefix}",
                    hint=f"choose {prefix.prefixlen} to {prefix.prefixlen + MAX_NODE_BITS}",
                )
