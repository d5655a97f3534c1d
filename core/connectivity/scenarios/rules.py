"""By what they may reach each other: ports, protocols, ICMP types."""

from axoneme.core.connectivity.model import Scenario
from axoneme.core.connectivity.scenarios.parts import ECHOES, policy, reach, refuse

WEB_ONLY = (
    *reach("client", *ECHOES),
    *refuse("client", *ECHOES, port=9090),
    *refuse("client", *ECHOES, port=8081, proto="udp"),
)


def ingress(ports: str) -> str:
    """From clients, by these ports."""
    return policy(f"""
endpointSelector: {{matchLabels: {{kind: echo}}}}
ingress:
- fromEndpoints: [{{matchLabels: {{kind: client}}}}]
  toPorts: [{{ports: [{ports}]}}]
""")


SCENARIOS = (
    Scenario(
        "echo-ingress-port", "rules", "one TCP port", WEB_ONLY,
        ingress('{port: "8080", protocol: TCP}'),
    ),
    Scenario(
        "echo-ingress-named-port", "rules", "the same by its name", WEB_ONLY,
        ingress("{port: web, protocol: TCP}"),
    ),
    Scenario(
        "echo-ingress-port-range", "rules", "a range of ports",
        (*reach("client", *ECHOES), *reach("client", *ECHOES, port=9090),
         *refuse("client", *ECHOES, port=8081, proto="udp")),
        ingress('{port: "8000", endPort: 9100, protocol: TCP}'),
    ),
    Scenario(
        "echo-ingress-udp", "rules", "one UDP port",
        (*reach("client", *ECHOES, port=8081, proto="udp"), *refuse("client", *ECHOES)),
        ingress('{port: "8081", protocol: UDP}'),
    ),
    Scenario(
        "any-peer-one-port", "rules", "a port for everybody",
        (*reach("client", *ECHOES), *reach("host-b", *ECHOES),
         *refuse("client", *ECHOES, port=9090)),
        policy("""
endpointSelector: {matchLabels: {kind: echo}}
ingress: [{toPorts: [{ports: [{port: "8080", protocol: TCP}]}]}]
"""),
    ),
    Scenario(
        "client-egress-port", "rules", "egress by port", WEB_ONLY,
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress:
- toEndpoints: [{matchLabels: {kind: echo}}]
  toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
"""),
    ),
    Scenario(
        "deny-one-port", "rules", "all ports but one",
        (*reach("client", *ECHOES), *refuse("client", *ECHOES, port=9090)),
        policy("""
endpointSelector: {matchLabels: {kind: echo}}
ingress: [{fromEndpoints: [{}]}]
ingressDeny:
- fromEndpoints: [{}]
  toPorts: [{ports: [{port: "9090", protocol: TCP}]}]
"""),
    ),
    Scenario(
        "icmp-only", "rules", "echo requests, nothing else",
        (*reach("client", *ECHOES, port=0, proto="icmp"), *refuse("client", *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: echo}}
ingress:
- fromEndpoints: [{}]
  icmps: [{fields: [{type: 8, family: IPv4}, {type: 128, family: IPv6}]}]
"""),
        needs=("enable-icmp-rules=true",),
    ),
    Scenario(
        "established-answers", "rules", "a pod that may begin nothing still answers",
        (*reach("client", *ECHOES), *refuse("echo-same", "echo-other")),
        policy("endpointSelector: {matchLabels: {kind: echo}}\negress: [{}]"),
    ),
)  # fmt: skip
