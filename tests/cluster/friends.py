"""A server that lets friends in and no strangers: what tests of identities between nodes ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

NAMESPACE = "friends"
POLICY = f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: server, namespace: {NAMESPACE}}}
spec:
  podSelector: {{matchLabels: {{app: server}}}}
  policyTypes: [Ingress]
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: friend}}}}}}]}}]
"""


def pod(name: str, app: str, node: str) -> str:
    """A manifest."""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{app: {app}}}}}
spec: {{nodeName: {node}, containers: [{{name: c, ports: [{{containerPort: 8080}}]}}]}}
---
"""


def verdict(lab: Any, source: str) -> str:
    """Of a connection to the server."""
    target = f"{NAMESPACE}/server"
    return str(lab.probe(f"{NAMESPACE}/{source}", target, "--port", "8080")["verdict"])


def eventually(true: Callable[[], object]) -> None:
    """Within some seconds."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
