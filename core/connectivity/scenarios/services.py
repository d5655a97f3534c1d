"""Services, where they are ours to forward."""

from axoneme.core.connectivity.model import DENIED, Check, Scenario
from axoneme.core.connectivity.scenarios.parts import policy, reach

KPR = ("kube-proxy-replacement=true",)
SCENARIOS = (
    Scenario(
        "pod-to-service", "services", "a cluster IP, backends on both nodes",
        (*reach("client", "svc:echo", port=80),
         *reach("client", "svc:only-same", "svc:only-other", port=80)),
        needs=KPR,
    ),
    Scenario(
        "pod-to-service-udp", "services", "the same by UDP",
        reach("client", "svc:echo", "svc:only-other", port=81, proto="udp"),
        needs=KPR,
    ),
    Scenario(
        "host-to-service", "services", "a cluster IP from the nodes themselves",
        (*reach("host-a", "svc:echo", port=80), *reach("host-b", "svc:echo", port=80)),
        needs=KPR,
    ),
    Scenario(
        "pod-to-itself-via-service", "services", "hairpin: the only backend asks its own service",
        (*reach("echo-same", "svc:only-same", port=80),
         *reach("echo-other", "svc:only-other", port=80)),
        needs=KPR,
    ),
    Scenario(
        "service-with-affinity", "services", "client affinity",
        reach("client", "svc:sticky", port=80),
        needs=KPR,
    ),
    Scenario(
        "service-without-endpoints", "services", "refused at once, not timed out",
        tuple(Check("client", "svc:nobody", 80, expect=DENIED) for _ in range(1)),
        needs=KPR,
    ),
    Scenario(
        "pod-to-nodeport", "services", "a node port of the own node and of another",
        reach("client", "nodeport-a", "nodeport-b", port=31980),
        needs=KPR,
    ),
    Scenario(
        "host-to-nodeport", "services", "a node port from the nodes",
        (*reach("host-a", "nodeport-a", "nodeport-b", port=31980),),
        needs=KPR,
    ),
    Scenario(
        "outside-to-nodeport", "services", "node ports of both nodes from outside",
        reach("outside", "nodeport-a", "nodeport-b", port=31980),
        needs=(*KPR, "from-outside"),
    ),
    Scenario(
        "outside-to-local-nodeport", "services", "externalTrafficPolicy Local",
        (*reach("outside", "nodeport-b", port=31981),
         *reach("outside", "nodeport-a", port=31981, expect=DENIED)),
        needs=(*KPR, "from-outside", "two-nodes"),
    ),
    Scenario(
        "policy-sees-backends", "services", "rules are about backends, not services",
        (*reach("client", "svc:only-other", port=80),
         *reach("client", "svc:only-same", port=80, expect=DENIED)),
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress:
- toEndpoints: [{matchLabels: {name: echo-other}}]
  toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
"""),
        needs=KPR,
    ),
    Scenario(
        "policy-to-services", "services", "toServices names a service by its name",
        (*reach("client", "svc:only-same", port=80),
         *reach("client", "svc:only-other", port=80, expect=DENIED)),
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress:
- toServices: [{k8sService: {serviceName: only-same, namespace: axoneme-test}}]
"""),
        needs=KPR,
    ),
)  # fmt: skip
