"""Options of Kubernetes IPAM, with Cilium's names and defaults."""

from __future__ import annotations

from axoneme.core.config import Config, OptionRegistry
from axoneme.core.errors import ConfigError

FAMILIES = (4, 6)


def register(options: OptionRegistry) -> None:
    """Declare the keys, and the value of ``ipam`` that switches this plugin on."""
    options.offer("ipam", "kubernetes")
    for family in FAMILIES:
        options.add(
            f"k8s-require-ipv{family}-pod-cidr",
            "bool",
            False,
            f"Start only when the Kubernetes Node has an IPv{family} pod CIDR",
            component="agent",
            helm=f"k8s.requireIPv{family}PodCIDR",
        )


def required(config: Config) -> tuple[int, ...]:
    """Families that the start waits for."""
    return tuple(v for v in FAMILIES if config.flag(f"k8s-require-ipv{v}-pod-cidr"))


def check(config: Config) -> None:
    """Nobody can wait for a family that is off."""
    for family in required(config):
        if not config.flag(f"enable-ipv{family}"):
            raise ConfigError(
                f"key k8s-require-ipv{family}-pod-cidr is true but enable-ipv{family} is false",
                hint=f"set enable-ipv{family}=true or k8s-require-ipv{family}-pod-cidr=false",
            )
