"""DNS: rules about names, and addresses by names."""

from axoneme.core.connectivity.model import ALLOWED, REFUSED, Check, Scenario
from axoneme.core.connectivity.scenarios.parts import ECHOES, policy, reach, refuse
from axoneme.core.connectivity.workloads import ZONE

L7 = ("enable-l7-proxy=true",)


def ask(name: str, expect: str = ALLOWED) -> Check:
    """A client asks the test's name server."""
    return Check("client", "dns", 53, "dns", expect, (4, 6), name)


ASK_ZONE = f"""
- toEndpoints: [{{matchLabels: {{kind: dns}}}}]
  toPorts:
  - ports: [{{port: "53", protocol: ANY}}]
    rules: {{dns: [{{matchPattern: "{ZONE}"}}]}}
"""
SCENARIOS = (
    Scenario(
        "pod-to-dns", "dns", "a name server that is a pod", (ask(ZONE), ask(f"other.{ZONE}")),
    ),
    Scenario(
        "dns-port-only", "dns", "port 53 and nothing else",
        (ask(ZONE), *refuse("client", *ECHOES)),
        policy("""
endpointSelector: {matchLabels: {kind: client}}
egress:
- toEndpoints: [{matchLabels: {kind: dns}}]
  toPorts: [{ports: [{port: "53", protocol: ANY}]}]
"""),
    ),
    Scenario(
        "dns-rules", "dns", "one name may be asked for, another is refused",
        (ask(ZONE), ask(f"other.{ZONE}", REFUSED)),
        policy(f"""
endpointSelector: {{matchLabels: {{kind: client}}}}
egress:
{ASK_ZONE}
"""),
        needs=L7,
    ),
    Scenario(
        "to-fqdns", "dns", "an address outside by its name only",
        (ask(ZONE), *reach("client", "outside", port=0, proto="icmp"), *refuse("client", *ECHOES)),
        policy(f"""
endpointSelector: {{matchLabels: {{kind: client}}}}
egress:
{ASK_ZONE}
- toFQDNs: [{{matchName: "{ZONE}"}}]
"""),
        needs=(*L7, "outside"),
    ),
)  # fmt: skip
