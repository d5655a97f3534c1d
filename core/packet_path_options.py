"""The core's keys of the packet path: conntrack, fragments, events."""

from __future__ import annotations

from typing import Final

from axoneme.core.config import OptionRegistry

MAX_MAP: Final = 1 << 24
"""Cilium's own upper bound for conntrack maps (entries)."""

AGGREGATION: Final = ("none", "lowest", "low", "medium", "max", "maximum")


def register(options: OptionRegistry) -> None:
    """Declare them; part of :func:`axoneme.core.options.register`."""
    _conntrack(options)
    _events(options)


def _conntrack(options: OptionRegistry) -> None:
    def size(key: str, default: int, text: str, helm: str = "") -> None:
        options.add(key, "int", default, text, min=1024, max=MAX_MAP, component="agent", helm=helm)

    def timeout(key: str, default: str, text: str) -> None:
        options.add(key, "duration", default, text, min=1, max=2**31 - 1, component="agent")

    size("bpf-ct-global-tcp-max", 524288, "Entries of the TCP conntrack tables", "bpf.ctTcpMax")
    size("bpf-ct-global-any-max", 262144, "Entries of the other conntrack tables", "bpf.ctAnyMax")
    size("bpf-fragments-map-max", 8192, "Datagrams in fragments that are tracked")
    timeout("bpf-ct-timeout-regular-tcp", "2h13m20s", "Idle time of an established TCP entry")
    timeout("bpf-ct-timeout-regular-tcp-syn", "1m0s", "Life of a TCP entry that saw only a SYN")
    timeout("bpf-ct-timeout-regular-tcp-fin", "10s", "Life of a TCP entry after FIN or RST")
    timeout("bpf-ct-timeout-regular-any", "1m0s", "Idle time of any other entry")
    options.add(
        "conntrack-gc-interval",
        "duration",
        "0s",
        "Time between collections of expired conntrack entries; 0 adapts to the churn",
        component="agent",
        helm="conntrackGCInterval",
    )
    options.add(
        "conntrack-gc-max-interval",
        "duration",
        "0s",
        "Upper bound of the adapted interval; 0 leaves it at 12 hours",
        component="agent",
        helm="conntrackGCMaxInterval",
    )
    options.add(
        "enable-extended-ip-protocols",
        "bool",
        False,
        "Let VRRP, IGMP, GRE, IPIP, IPv6-in-IP, ESP and AH pass where policy allows them",
        component="agent",
    )
    for family in ("ipv4", "ipv6"):
        options.add(
            f"enable-{family}-fragment-tracking",
            "bool",
            True,
            f"Find the ports of later {family.replace('ip', 'IP')} fragments by their first",
            component="agent",
        )


def _events(options: OptionRegistry) -> None:
    options.add(
        "monitor-aggregation",
        "string",
        "medium",
        "How many trace events of one connection the kernel keeps back",
        choices=AGGREGATION,
        component="agent",
        helm="bpf.monitorAggregation",
    )
    options.add(
        "monitor-aggregation-interval",
        "duration",
        "5s",
        "Time after which an aggregated connection is reported again",
        component="agent",
        helm="bpf.monitorInterval",
    )
    options.add(
        "monitor-aggregation-flags",
        "strings",
        "syn fin rst",
        "TCP flags whose first sight is reported at once",
        choices=("syn", "ack", "fin", "rst", "psh", "urg", "ece", "cwr", "all"),
        component="agent",
        helm="bpf.monitorFlags",
    )
    options.add(
        "policy-events-buffer",
        "int",
        4096,
        "Drops and refused packets kept in memory for axoneme policy explain; 0 keeps none",
        min=0,
        max=1 << 20,
        component="agent",
    )
    for name, text in (
        ("drop", "dropped packets"),
        ("policy-verdict", "policy verdicts"),
        ("trace", "traced packets"),
    ):
        camel = "policyVerdict" if name == "policy-verdict" else name
        options.add(
            f"bpf-events-{name}-enabled",
            "bool",
            True,
            f"Report {text}",
            component="agent",
            helm=f"bpf.events.{camel}.enabled",
        )
