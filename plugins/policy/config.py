"""Options of the policy plugin, under Cilium's names, and what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from axoneme.plugins.policy.subjects import Settings

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry

SOURCES: Final = {
    "NetworkPolicy": "enable-k8s-networkpolicy",
    "CiliumNetworkPolicy": "enable-cilium-network-policy",
    "CiliumClusterwideNetworkPolicy": "enable-cilium-clusterwide-network-policy",
}
"""The key that switches each built-in kind on; kinds of plugins are always on."""


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    options.add(
        "enable-policy",
        "string",
        "default",
        "When a direction of an endpoint is default-deny: once a rule selects it, always, never.",
        choices=("default", "always", "never"),
        component="policy",
        helm="policyEnforcementMode",
    )
    options.add(
        "bpf-policy-map-max",
        "int",
        16384,
        "Entries that the policy of one identity may need; with more it drops everything.",
        min=256,
        max=65536,
        component="policy",
        helm="bpf.policyMapMax",
    )
    options.add(
        "allow-localhost",
        "string",
        "auto",
        "Whether a node may always reach its own pods: auto and always yes, policy by rules only.",
        choices=("auto", "always", "policy"),
        component="policy",
    )
    for kind, key in SOURCES.items():
        options.add(key, "bool", True, f"Enforce {kind} objects.", component="policy")


def settings(config: Config) -> Settings:
    """The engine's settings."""
    return Settings(
        mode=str(config["enable-policy"]),
        allow_localhost=config["allow-localhost"] != "policy",
    )


def wanted(config: Config, kind: str) -> bool:
    """Whether objects of a kind are enforced."""
    key = SOURCES.get(kind)
    return key is None or bool(config[key])
