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
    "ClusterNetworkPolicy": "enable-k8s-cluster-network-policy",
}
"""The key that switches each built-in kind on; kinds of plugins are always on."""

HELM: Final = {
    "NetworkPolicy": "k8sNetworkPolicy.enabled",
    "ClusterNetworkPolicy": "k8sClusterNetworkPolicy.enabled",
}

MODES: Final = ("default", "always", "never")

AUDIT: Final = "policy-audit-mode"
LOCALHOST: Final = "allow-localhost"
FRAG_NEEDED: Final = "allow-icmp-frag-needed"
RESPONSE: Final = "policy-deny-response"
ICMP_RULES: Final = "enable-icmp-rules"
ACCOUNTING: Final = "policy-accounting"
STATS_MAX: Final = "bpf-policy-stats-map-max"

MATCH_MODES: Final = {"nodes": 1, "pods": 2}
"""Who CIDR rules may mean as well: ``AXO_POLICY_CIDR_*`` in ``cidr_match.h``."""


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    options.add(
        "enable-policy",
        "string",
        "default",
        "When a direction of an endpoint is default-deny: once a rule selects it, always, never.",
        choices=MODES,
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
        LOCALHOST,
        "string",
        "auto",
        "Whether a node may always reach its own pods: auto and always yes, policy by rules only.",
        choices=("auto", "always", "policy"),
        component="policy",
    )
    options.add(
        "policy-cidr-match-mode",
        "strings",
        (),
        "Who CIDR rules mean beside addresses outside the cluster: nodes, pods.",
        component="policy",
        helm="policyCIDRMatchMode",
        validate=_check_match_mode,
    )
    for kind, key in SOURCES.items():
        default = kind != "ClusterNetworkPolicy"
        helm = HELM.get(kind, "")
        options.add(key, "bool", default, f"Enforce {kind} objects.", component="policy", helm=helm)
    options.add(
        "enable-non-default-deny-policies",
        "bool",
        True,
        "Whether enableDefaultDeny of a policy counts; else every rule enforces its direction.",
        component="policy",
        helm="enableNonDefaultDenyPolicies",
    )
    options.add(
        AUDIT,
        "bool",
        False,
        "Tell what policy refuses, with verdict AUDIT, and let it through.",
        component="policy",
        helm="policyAuditMode",
    )
    options.add(
        FRAG_NEEDED,
        "bool",
        True,
        "Whether ICMP's fragmentation needed and packet too big pass whatever rules say.",
        component="policy",
    )
    options.add(
        ACCOUNTING,
        "bool",
        True,
        "Count for each policy entry the packets, and their bytes, that it decided about.",
        component="policy",
    )
    options.add(
        STATS_MAX,
        "int",
        65536,
        "Policy entries that are counted; with more, those that decided longest ago are left out.",
        min=256,
        max=1 << 24,
        component="policy",
        helm="bpf.policyStatsMapMax",
    )
    options.add(
        RESPONSE,
        "string",
        "none",
        "Whether a pod is told by an ICMP error that its own egress policy refuses what it sends.",
        choices=("none", "icmp"),
        component="policy",
        helm="policyDenyResponse",
    )
    options.add(
        ICMP_RULES,
        "bool",
        True,
        "Whether policies may have rules about ICMP; else one that has them is refused.",
        component="policy",
    )


def _check_match_mode(words: tuple[str, ...]) -> str | None:
    wrong = [word for word in words if word not in MATCH_MODES]
    return f"{wrong[0]!r} is not one of {', '.join(MATCH_MODES)}" if wrong else None


def match_mode(config: Config) -> int:
    """``AXO_POLICY_CIDR_*`` of ``policy-cidr-match-mode``; 0 for the default."""
    return sum(MATCH_MODES[word] for word in set(config.words("policy-cidr-match-mode")))


def constants(config: Config) -> dict[str, int]:
    """What the configuration says to the program: constants of ``policy.bpf.c``."""
    found = {
        "AXO_POLICY_ALLOW_FRAG_NEEDED": int(config.flag(FRAG_NEEDED)),
    }
    if config.flag(ACCOUNTING):
        found["AXO_POLICY_ACCOUNTING"] = 1
    if mode := match_mode(config):
        found["AXO_POLICY_CIDR_MATCH"] = mode
    return found


def settings(config: Config) -> Settings:
    """The engine's settings."""
    return Settings(
        mode=str(config["enable-policy"]),
        allow_localhost=allows_localhost(config.text(LOCALHOST)),
    )


def allows_localhost(word: str) -> bool:
    """What a value of ``allow-localhost`` means."""
    return word != "policy"


def wanted(config: Config, kind: str) -> bool:
    """Whether objects of a kind are enforced."""
    key = SOURCES.get(kind)
    return key is None or bool(config[key])
