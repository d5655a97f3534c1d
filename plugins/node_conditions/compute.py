"""What a node should look like, given the agents' pods on it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from axoneme.core.model.conditions import Condition, conditions_of, with_condition
from axoneme.core.model.objects import ClusterObject
from axoneme.plugins.node_conditions.config import Settings
from axoneme.plugins.node_conditions.tables import (
    EFFECT,
    NETWORK,
    UP,
    NodeRow,
    PodRow,
    is_up,
    taints_of,
)


def agent_ready(pods: Iterable[PodRow]) -> bool | None:
    """Whether an agent is ready on a node; ``None``: none is scheduled there."""
    found = [pod.ready for pod in pods if pod.agent]
    return any(found) if found else None


def is_right(node: NodeRow, ready: bool | None, settings: Settings) -> bool:
    """Whether nothing is to be done; cheap, asked at every change."""
    if ready is None:
        return True
    if not ready:
        return node.tainted or not settings.set
    return not (node.tainted and settings.remove) and (node.up or not settings.condition)


def taints(node: ClusterObject, ready: bool, settings: Settings) -> list[Mapping[str, Any]] | None:
    """The taints of a node as they should be; ``None``: they are right."""
    present = taints_of(node)
    ours = [t for t in present if t.get("key") == settings.taint]
    if ready and settings.remove and ours:
        return [t for t in present if t not in ours]
    if not ready and settings.set and not ours:
        return [*present, {"key": settings.taint, "effect": EFFECT}]
    return None


def conditions(
    node: ClusterObject, ready: bool, settings: Settings
) -> list[Mapping[str, Any]] | None:
    """The conditions of a node as they should be; ``None``: they are right."""
    if not (ready and settings.condition) or is_up(node.status):
        return None
    said = Condition(NETWORK, "False", UP, "Axoneme is running on this node")
    return conditions_of(with_condition(node.status, said))
