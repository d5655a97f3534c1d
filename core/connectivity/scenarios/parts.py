"""What scenarios are put together from."""

from __future__ import annotations

from axoneme.core.connectivity.model import ALLOWED, DENIED, Check
from axoneme.core.connectivity.workloads import NAMESPACE

ECHOES = ("echo-same", "echo-other")
CLIENTS = ("client", "client2")


def reach(source: str, *targets: str, expect: str = ALLOWED, port: int = 8080, proto: str = "tcp",
          families: tuple[int, ...] = (4, 6)) -> tuple[Check, ...]:  # fmt: skip
    """One check for each target."""
    return tuple(Check(source, t, port, proto, expect, families) for t in targets)


def refuse(source: str, *targets: str, port: int = 8080, proto: str = "tcp",
           families: tuple[int, ...] = (4, 6)) -> tuple[Check, ...]:  # fmt: skip
    """The same, and none of them may get through."""
    return reach(source, *targets, expect=DENIED, port=port, proto=proto, families=families)


def policy(spec: str, *, name: str = "under-test", kind: str = "CiliumNetworkPolicy") -> str:
    """A policy in the test's namespace; cluster-wide kinds get none."""
    versions = {
        "NetworkPolicy": "networking.k8s.io/v1",
        "ClusterNetworkPolicy": "policy.networking.k8s.io/v1alpha2",
    }
    wide = kind in ("CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy")
    place = "" if wide else f", namespace: {NAMESPACE}"
    own = f"{name}" if not wide else f"axoneme-test-{name}"
    body = "\n".join(f"  {line}" for line in spec.strip("\n").splitlines())
    version = versions.get(kind, "cilium.io/v2")
    head = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {own}{place}}}"
    return f"---\n{head}\nspec:\n{body}\n"
