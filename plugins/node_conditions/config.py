"""Options, with Cilium's names and defaults."""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import frozen

from axoneme.core.config import Config, OptionRegistry
from axoneme.core.model.selectors import LabelSelector, parse_selector

TAINT: Final = "agent-not-ready-taint-key"
REMOVE: Final = "remove-cilium-node-taints"
SET: Final = "set-cilium-node-taints"
CONDITION: Final = "set-cilium-is-up-condition"
NAMESPACE: Final = "cilium-pod-namespace"
LABELS: Final = "cilium-pod-labels"
WORKERS: Final = "taint-sync-workers"
INTERVAL: Final = "unmanaged-pod-watcher-interval"
SELECTOR: Final = "pod-restart-selector"

_QUALIFIED: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    add = options.add
    add(
        TAINT,
        "string",
        "node.cilium.io/agent-not-ready",
        "Key of the taint of nodes on which the agent is not ready",
        validate=_taint_key,
        helm="agentNotReadyTaintKey",
    )
    add(
        REMOVE,
        "bool",
        True,
        "Remove that taint from a node once the agent is ready there",
        component="operator",
        helm="operator.removeNodeTaints",
    )
    add(
        SET,
        "bool",
        False,
        "Put that taint on a node whose agent is scheduled but not ready",
        component="operator",
        helm="operator.setNodeTaints",
    )
    add(
        CONDITION,
        "bool",
        True,
        "Say in the condition NetworkUnavailable of a node that the agent is up",
        component="operator",
        helm="operator.setNodeNetworkStatus",
    )
    add(NAMESPACE, "string", "kube-system", "Namespace of the agents' pods", component="operator")
    add(
        LABELS,
        "string",
        "k8s-app=axoneme",
        "Labels of the agents' pods, as a selector",
        component="operator",
        validate=_selector,
    )
    add(
        WORKERS, "int", 10, "Nodes that are written at a time", component="operator", min=1, max=100
    )
    add(
        INTERVAL,
        "duration",
        "15s",
        "Time between looks for pods that no agent manages; 0 turns them off",
        component="operator",
        helm="operator.unmanagedPodWatcher.intervalSeconds",
    )
    add(
        SELECTOR,
        "string",
        "k8s-app=kube-dns",
        "Pods that are restarted when no agent manages them; empty: all",
        component="operator",
        validate=_selector,
        helm="operator.unmanagedPodWatcher.selector",
    )


@frozen
class Settings:
    """The keys as they are used."""

    taint: str
    remove: bool
    set: bool
    condition: bool
    namespace: str
    agents: LabelSelector
    workers: int
    interval: float
    restarted: LabelSelector

    @classmethod
    def of(cls, config: Config) -> Settings:
        """Read the keys."""
        return cls(
            config.text(TAINT),
            config.flag(REMOVE),
            config.flag(SET),
            config.flag(CONDITION),
            config.text(NAMESPACE) or "kube-system",
            parse_selector(config.text(LABELS)),
            config.number(WORKERS),
            config.seconds(INTERVAL),
            parse_selector(config.text(SELECTOR)),
        )

    @property
    def nodes(self) -> bool:
        """Whether there is anything to do on nodes."""
        return self.remove or self.set or self.condition


def enabled(config: Config) -> tuple[bool, str]:
    """On while any of the duties is, and objects live where nodes are objects of Kubernetes."""
    duties = [k for k in (REMOVE, SET, CONDITION) if config.flag(k)]
    if config.seconds(INTERVAL) > 0:
        duties.append(INTERVAL)
    return bool(duties), ", ".join(duties) or "no duty is on"


def _taint_key(key: Any) -> str | None:
    return None if _QUALIFIED.fullmatch(str(key)) else "a taint's key such as example.io/not-ready"


def _selector(text: Any) -> str | None:
    try:
        parse_selector(str(text))
    except ValueError as error:
        return f"a label selector such as k8s-app=axoneme: {error}"
    return None
