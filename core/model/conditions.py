"""Conditions in the status of an object, in Kubernetes' form (``metav1.Condition``)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import frozen


@frozen
class Condition:
    """What one condition says; ``status`` is ``True``, ``False`` or ``Unknown``."""

    type: str
    status: str
    reason: str
    message: str = ""
    generation: int | None = None


def conditions_of(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The conditions that can be read, in order."""
    found = status.get("conditions")
    return [c for c in found if isinstance(c, Mapping)] if isinstance(found, list | tuple) else []


def has_condition(status: Mapping[str, Any], kind: str) -> bool:
    """Whether there is one of a type."""
    return any(c.get("type") == kind for c in conditions_of(status))


def with_condition(status: Mapping[str, Any], condition: Condition) -> dict[str, Any]:
    """The status with a condition put in place; its time moves only when its status changes."""
    every = conditions_of(status)
    old = next((c for c in every if c.get("type") == condition.type), None)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    same = old is not None and old.get("status") == condition.status
    time = str(old["lastTransitionTime"]) if same and old and "lastTransitionTime" in old else now
    new: dict[str, Any] = {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": time,
    }
    if condition.generation is not None:
        new["observedGeneration"] = condition.generation
    if old is None:
        return {**status, "conditions": [*every, new]}
    if dict(old) == new:
        return dict(status)
    return {**status, "conditions": [new if c is old else c for c in every]}


def without_condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The status without conditions of a type; the key goes with the last one."""
    if not has_condition(status, kind):
        return dict(status)
    rest = [c for c in conditions_of(status) if c.get("type") != kind]
    kept = {key: value for key, value in status.items() if key != "conditions"}
    return {**kept, "conditions": rest} if rest else kept
