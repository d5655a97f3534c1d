"""Rows: Kubernetes Nodes, and the pods that matter here. Other pods leave no row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.conditions import conditions_of
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.plugins.node_conditions.config import Settings

NETWORK: Final = "NetworkUnavailable"
UP: Final = "CiliumIsUp"
EFFECT: Final = "NoSchedule"
ENDED: Final = ("Succeeded", "Failed")


@frozen
class NodeRow:
    """Row of table ``node_conditions``. Key: ``name``."""

    name: str
    tainted: bool
    up: bool
    """The condition says that the agent is up."""


@frozen
class PodRow:
    """Row of table ``watched_pods``. Key: ``(namespace, name)``."""

    namespace: str
    name: str
    uid: str
    node: str
    ready: bool
    agent: bool
    """One of our agents; else one that may be restarted."""

    @property
    def key(self) -> ObjectKey:
        """Of the pod."""
        return ObjectKey("Pod", self.namespace, self.name)


def taints_of(obj: ClusterObject) -> list[Mapping[str, Any]]:
    """``spec.taints`` of a Node (Kubernetes API, NodeSpec)."""
    found = obj.spec.get("taints") or []
    if not isinstance(found, list | tuple):
        raise InvalidObjectError(str(obj.key), "spec.taints", "must be a list")
    for index, taint in enumerate(found):
        if not isinstance(taint, Mapping):
            raise InvalidObjectError(str(obj.key), f"spec.taints[{index}]", "must be a mapping")
    return list(found)


def decode_node(obj: ClusterObject, settings: Settings) -> NodeRow:
    """Read a Node."""
    tainted = any(t.get("key") == settings.taint for t in taints_of(obj))
    return NodeRow(obj.key.name, tainted, is_up(obj.status))


def is_up(status: Mapping[str, Any]) -> bool:
    """Whether the condition is there already."""
    return any(
        c.get("type") == NETWORK and c.get("status") == "False" and c.get("reason") == UP
        for c in conditions_of(status)
    )


def decode_pod(obj: ClusterObject, settings: Settings) -> PodRow | None:
    """An agent's pod, or one that may be restarted; ``None`` for all others."""
    spec, node = obj.spec, str(obj.spec.get("nodeName") or "")
    metadata = obj.body.get("metadata") or {}
    if not node or obj.status.get("phase") in ENDED:
        return None
    agent = obj.key.namespace == settings.namespace and settings.agents.matches(obj.labels)
    if not agent:
        if spec.get("hostNetwork") is True or metadata.get("deletionTimestamp"):
            return None  # has no endpoint, or ends already
        if settings.interval <= 0 or not settings.restarted.matches(obj.labels):
            return None
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in conditions_of(obj.status)
    )
    return PodRow(obj.key.namespace, obj.key.name, obj.uid, node, ready, agent)
