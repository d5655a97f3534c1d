"""Pods and pods, without any policy."""

from axoneme.core.connectivity.model import REFUSED, Check, Scenario
from axoneme.core.connectivity.scenarios.parts import ECHOES, reach

SCENARIOS = (
    Scenario(
        "pod-to-pod", "pods", "TCP on the same node and across nodes",
        (*reach("client", *ECHOES), *reach("client2", *ECHOES)),
    ),
    Scenario(
        "pod-to-pod-udp", "pods", "UDP echo on the same node and across nodes",
        reach("client", *ECHOES, port=8081, proto="udp"),
    ),
    Scenario(
        "pod-to-pod-icmp", "pods", "ICMP and ICMPv6 echo",
        reach("client", *ECHOES, "client2", port=0, proto="icmp"),
    ),
    Scenario(
        "pod-to-itself", "pods", "a pod by its own address", reach("echo-same", "echo-same"),
    ),
    Scenario(
        "pod-to-closed-port", "pods", "a reset comes back from a port that nobody listens on",
        tuple(Check("client", echo, 7, expect=REFUSED) for echo in ECHOES),
    ),
    Scenario(
        "pod-across-nodes-both-ways", "pods", "each side may begin",
        (*reach("client3", "echo-same"), *reach("echo-same", "echo-other"),
         *reach("echo-other", "echo-same")),
        needs=("two-nodes",),
    ),
)  # fmt: skip
