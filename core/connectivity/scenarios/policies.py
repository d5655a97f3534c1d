"""Who may reach whom: selectors, kinds of policies, modes of denial."""

from axoneme.core.connectivity.model import Scenario
from axoneme.core.connectivity.scenarios.parts import CLIENTS, ECHOES, policy, reach, refuse

CCNP = "CiliumClusterwideNetworkPolicy"
ALL_DENIED = tuple(c for s in CLIENTS for c in refuse(s, *ECHOES))
BY_OTHER = (*reach("client2", *ECHOES), *refuse("client", *ECHOES))
SCENARIOS = (
    Scenario(
        "allow-all", "policies", "a policy that lets everything through",
        tuple(c for s in CLIENTS for c in reach(s, *ECHOES)),
        policy("""
endpointSelector: {}
ingress: [{fromEntities: [all]}]
egress: [{toEntities: [all]}]
"""),
    ),
    Scenario(
        "deny-all-ingress", "policies", "an empty rule lets nobody in",
        ALL_DENIED, policy("endpointSelector: {matchLabels: {kind: echo}}\ningress: [{}]"),
    ),
    Scenario(
        "deny-all-egress", "policies", "an empty rule lets nothing out",
        ALL_DENIED, policy("endpointSelector: {matchLabels: {kind: client}}\negress: [{}]"),
    ),
    Scenario(
        "client-ingress", "policies", "ingress from pods by a label",
        BY_OTHER,
        policy("""
endpointSelector: {matchLabels: {kind: echo}}
ingress: [{fromEndpoints: [{matchLabels: {other: client}}]}]
"""),
    ),
    Scenario(
        "client-ingress-by-expression", "policies", "the same by an expression",
        BY_OTHER,
        policy("""
endpointSelector: {matchExpressions: [{key: kind, operator: In, values: [echo]}]}
ingress: [{fromEndpoints: [{matchExpressions: [{key: other, operator: Exists}]}]}]
"""),
    ),
    Scenario(
        "client-egress", "policies", "egress to pods by a label",
        (*reach("client", "echo-same"), *refuse("client", "echo-other")),
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress: [{toEndpoints: [{matchLabels: {name: echo-same}}]}]
"""),
    ),
    Scenario(
        "deny-beats-allow", "policies", "a refusal wins in any order",
        (*reach("client", *ECHOES), *refuse("client2", *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: echo}}
ingress: [{fromEndpoints: [{matchLabels: {kind: client}}]}]
ingressDeny: [{fromEndpoints: [{matchLabels: {other: client}}]}]
"""),
    ),
    Scenario(
        "no-default-deny", "policies", "enableDefaultDeny: false refuses only what it names",
        (*reach("client", *ECHOES), *refuse("client2", *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: echo}}
enableDefaultDeny: {ingress: false}
ingressDeny: [{fromEndpoints: [{matchLabels: {other: client}}]}]
"""),
        needs=("enable-non-default-deny-policies=true",),
    ),
    Scenario(
        "from-entities-cluster", "policies", "everything of the cluster",
        tuple(c for s in CLIENTS for c in reach(s, *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: echo}}
ingress: [{fromEntities: [cluster]}]
"""),
    ),
    Scenario(
        "clusterwide-ingress", "policies", "a cluster-wide policy, by namespace and label",
        BY_OTHER,
        policy("""
endpointSelector: {matchLabels: {"k8s:io.kubernetes.pod.namespace": axoneme-test, kind: echo}}
ingress: [{fromEndpoints: [{matchLabels: {other: client}}]}]
""", kind=CCNP),
    ),
    Scenario(
        "knp-deny-ingress", "policies", "a NetworkPolicy that lets nobody in",
        ALL_DENIED,
        policy("podSelector: {}\npolicyTypes: [Ingress]", kind="NetworkPolicy"),
        needs=("enable-k8s-networkpolicy=true",),
    ),
    Scenario(
        "knp-pod-selector", "policies", "a NetworkPolicy with a pod selector and a port",
        (*BY_OTHER, *refuse("client2", *ECHOES, port=9090)),
        policy("""
podSelector: {matchLabels: {kind: echo}}
ingress:
- from: [{podSelector: {matchLabels: {other: client}}}]
  ports: [{port: 8080}]
""", kind="NetworkPolicy"),
        needs=("enable-k8s-networkpolicy=true",),
    ),
    Scenario(
        "knp-namespace-selector", "policies", "a NetworkPolicy with a namespace selector",
        tuple(c for s in CLIENTS for c in reach(s, *ECHOES)),
        policy("""
podSelector: {matchLabels: {kind: echo}}
ingress:
- from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: axoneme-test}}}]
""", kind="NetworkPolicy"),
        needs=("enable-k8s-networkpolicy=true",),
    ),
    Scenario(
        "knp-deny-egress", "policies", "a NetworkPolicy that lets nothing out",
        ALL_DENIED,
        policy("podSelector: {matchLabels: {kind: client}}\npolicyTypes: [Egress]",
               kind="NetworkPolicy"),
        needs=("enable-k8s-networkpolicy=true",),
    ),
    Scenario(
        "two-policies-add-up", "policies", "what any of two policies allows is allowed",
        tuple(c for s in CLIENTS for c in reach(s, *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: echo}}
ingress: [{fromEndpoints: [{matchLabels: {name: client}}]}]
""") + policy("""
endpointSelector: {matchLabels: {kind: echo}}
ingress: [{fromEndpoints: [{matchLabels: {other: client}}]}]
""", name="under-test-2"),
    ),
)  # fmt: skip
