"""The world outside the cluster."""

from axoneme.core.connectivity.model import Check, Scenario
from axoneme.core.connectivity.scenarios.parts import ECHOES, policy, reach, refuse

OUT = ("outside",)


def out(*sources: str, deny: bool = False) -> tuple[Check, ...]:
    """Echoes of an address outside."""
    make = refuse if deny else reach
    return tuple(c for s in sources for c in make(s, "outside", port=0, proto="icmp"))


SCENARIOS = (
    Scenario(
        "pod-to-outside", "external", "an address outside", out("client", "client3"), needs=OUT
    ),
    Scenario(
        "allow-all-except-world", "external", "the cluster, not the world",
        (*reach("client", *ECHOES), *out("client", deny=True)),
        policy("""
endpointSelector: {}
egress: [{toEntities: [cluster]}]
ingress: [{fromEntities: [all]}]
"""),
        needs=OUT,
    ),
    Scenario(
        "to-entities-world", "external", "the world, not the cluster",
        (*out("client"), *refuse("client", *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress: [{toEntities: [world]}]
"""),
        needs=OUT,
    ),
    Scenario(
        "to-cidr", "external", "all addresses by prefix mean those outside, not pods",
        (*out("client"), *refuse("client", *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress: [{toCIDR: [0.0.0.0/0, "::/0"]}]
"""),
        needs=OUT,
    ),
    Scenario(
        "to-cidr-except", "external", "an exception of a prefix",
        (*out("client", deny=True), *reach("client", *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress:
- toCIDRSet:
  - {cidr: 0.0.0.0/0, except: ["EXTERNAL4/32"]}
  - {cidr: "::/0", except: ["EXTERNAL6/128"]}
- toEntities: [cluster]
"""),
        needs=OUT,
    ),
    Scenario(
        "to-cidr-deny", "external", "a refusal beats what is allowed",
        (*out("client", deny=True), *reach("client", *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress: [{toEntities: [all]}]
egressDeny: [{toCIDR: [0.0.0.0/0, "::/0"]}]
"""),
        needs=OUT,
    ),
    Scenario(
        "outside-to-pod-denied", "external", "node ports: ingress policy sees who is outside",
        (*refuse("outside", "nodeport-b", port=31981), *reach("client", "echo-other")),
        policy("""
endpointSelector: {matchLabels: {name: echo-other}}
ingress: [{fromEntities: [cluster]}]
"""),
        needs=("from-outside", "kube-proxy-replacement=true", "two-nodes"),
    ),
)  # fmt: skip
