"""Named ports of the pods behind each identity, here and anywhere, for egress rules."""

from __future__ import annotations

from axoneme.core.model.endpoint import NamedPort
from axoneme.plugins.policy.engine import PolicyEngine

Name = tuple[str, str]
"""Namespace and name of a pod; an endpoint of this node has no namespace and its number."""


class PeerPorts:
    """Files pods under their identities and tells the engine what has changed."""

    def __init__(self, engine: PolicyEngine) -> None:
        self._engine = engine
        self._pods: dict[int, dict[Name, tuple[NamedPort, ...]]] = {}
        self._identity: dict[Name, int] = {}
        self._touched: set[int] = set()

    def move(self, name: Name, identity: int, ports: tuple[NamedPort, ...]) -> None:
        """File a pod under its identity; one without named ports is not kept."""
        old = self._identity.pop(name, None)
        if old is not None:
            self._pods[old].pop(name)
            self._touched.add(old)
        if ports:
            self._identity[name] = identity
            self._pods.setdefault(identity, {})[name] = ports
            self._touched.add(identity)

    def pods(self, identity: int) -> list[tuple[NamedPort, ...]]:
        """Named ports of each pod behind an identity that has any."""
        return list(self._pods.get(identity, {}).values())

    def publish(self) -> bool:
        """Tell the engine; whether there was anything to tell."""
        touched, self._touched = self._touched, set()
        for identity in touched:
            pods = self._pods.get(identity, {})
            if not pods:
                self._pods.pop(identity, None)
            self._engine.set_peer_ports(identity, list(pods.values()))
        return bool(touched)
