"""Nodes and pods."""

from axoneme.core.connectivity.model import Scenario
from axoneme.core.connectivity.scenarios.parts import ECHOES, policy, reach, refuse

SCENARIOS = (
    Scenario(
        "host-to-pod", "nodes", "nodes reach pods of their own and of others",
        (*reach("host-a", *ECHOES), *reach("host-b", *ECHOES)),
    ),
    Scenario(
        "pod-to-host", "nodes", "pods reach nodes",
        (*reach("client", "host-a", "host-b", port=0, proto="icmp"),),
    ),
    Scenario(
        "host-passes-ingress-policy", "nodes", "the own node reaches pods whatever rules say",
        (*reach("host-a", "echo-same"), *refuse("client", "echo-same")),
        policy("""
endpointSelector: {matchLabels: {kind: echo}}
ingress: [{}]
"""),
        needs=("allow-localhost=auto",),
    ),
    Scenario(
        "to-entities-host", "nodes", "egress to the own node only",
        (*reach("client", "host-a", port=0, proto="icmp"),
         *refuse("client", "host-b", port=0, proto="icmp"), *refuse("client", *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress: [{toEntities: [host]}]
"""),
        needs=("two-nodes",),
    ),
    Scenario(
        "to-entities-remote-node", "nodes", "egress to other nodes only",
        (*reach("client", "host-b", port=0, proto="icmp"),
         *refuse("client", "host-a", port=0, proto="icmp")),
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress: [{toEntities: [remote-node]}]
"""),
        needs=("two-nodes",),
    ),
    Scenario(
        "from-entities-remote-node", "nodes", "ingress from other nodes, not from pods",
        (*reach("host-b", "echo-same"), *refuse("client", "echo-same"),
         *refuse("client3", "echo-same")),
        policy("""
endpointSelector: {matchLabels: {kind: echo}}
ingress: [{fromEntities: [host, remote-node]}]
"""),
        needs=("two-nodes",),
    ),
)  # fmt: skip
