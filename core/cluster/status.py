"""How an installation is: its workloads, its pods, the nodes and what they complain about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import Factory, define

from axoneme.core.errors import NotFoundError
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.model.objects import ClusterObject, ObjectKey

AGENT: Final = "axoneme"
OPERATOR: Final = "axoneme-operator"
CONFIG: Final = "axoneme-config"
SELECTORS: Final = {AGENT: ("k8s-app", "axoneme"), OPERATOR: ("io.cilium/app", "operator")}
COUNTS: Final = {
    "DaemonSet": (
        "desiredNumberScheduled",
        "numberReady",
        "numberAvailable",
        "updatedNumberScheduled",
    ),
    "Deployment": ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas"),
}
KINDS: Final = {AGENT: "DaemonSet", OPERATOR: "Deployment"}


@define
class Workload:
    """A DaemonSet or a Deployment."""

    kind: str
    name: str
    desired: int
    ready: int
    available: int
    updated: int

    @property
    def complete(self) -> bool:
        """All of them run what they should."""
        return self.desired == self.ready == self.updated and self.desired > 0


@define
class ClusterStatus:
    """What ``axoneme status`` tells of a cluster. ``errors`` and ``warnings`` by component."""

    workloads: list[Workload] = Factory(list)
    phases: dict[str, dict[str, int]] = Factory(dict)
    managed: int = 0
    pods: int = 0
    chart: str = ""
    images: dict[str, dict[str, int]] = Factory(dict)
    errors: list[tuple[str, str, str]] = Factory(list)
    warnings: list[tuple[str, str, str]] = Factory(list)

    @property
    def ready(self) -> bool:
        """Nothing is missing."""
        return not self.errors and all(w.complete for w in self.workloads)

    def state(self, name: str) -> str:
        """OK, an error, or that it is not there."""
        found = next((w for w in self.workloads if w.name == name), None)
        if found is None:
            return "disabled"
        count = sum(1 for c, _, _ in self.errors if c == name)
        if count:
            return f"{count} errors"
        return "OK" if found.complete else "not ready"


async def gather(store: KubernetesStore, namespace: str) -> ClusterStatus:
    """Ask the API server."""
    status = ClusterStatus()
    pods = await store.list("Pod")
    for name, kind in KINDS.items():
        await _workload(store, status, namespace, kind, name)
        label, value = SELECTORS[name]
        own = [p for p in pods if p.key.namespace == namespace and p.labels.get(label) == value]
        _pods_of(status, name, own)
    await _network(store, status, pods)
    if not any(w.name == AGENT for w in status.workloads):
        status.errors.append((AGENT, AGENT, f"no DaemonSet {AGENT} in namespace {namespace}"))
    return status


async def _workload(
    store: KubernetesStore, status: ClusterStatus, namespace: str, kind: str, name: str
) -> None:
    try:
        obj = await store.get(ObjectKey(kind, namespace, name))
    except NotFoundError:
        return
    said: Mapping[str, Any] = obj.status
    status.chart = status.chart or str(obj.labels.get("helm.sh/chart", ""))
    words = COUNTS[kind]
    desired, ready, available, updated = (int(said.get(w) or 0) for w in words)
    if kind == "Deployment":
        desired = int(obj.spec.get("replicas") or 0)
    stale = int(said.get("observedGeneration") or 0) < int(
        obj.body["metadata"].get("generation") or 0
    )
    workload = Workload(kind, name, desired, ready, available, 0 if stale else updated)
    status.workloads.append(workload)
    if ready < desired:
        text = f"{desired - ready} pods of {kind} {name} are not ready"
        status.errors.append((name, name, text))
    elif not workload.complete:
        text = f"{kind} {name} is being rolled out" if desired else f"{kind} {name} wants no pod"
        status.warnings.append((name, name, text))


def _pods_of(status: ClusterStatus, name: str, pods: Iterable[ClusterObject]) -> None:
    phases: Counter[str] = Counter()
    images: Counter[str] = Counter()
    for pod in pods:
        phases[str(pod.status.get("phase") or "Unknown")] += 1
        for container in pod.spec.get("containers") or ():
            images[str(container.get("image"))] += 1
        for text in _complaints(pod.status):
            status.errors.append((name, pod.key.name, text))
    if phases:
        status.phases[name], status.images[name] = dict(phases), dict(images)


def _complaints(said: Mapping[str, Any]) -> Iterable[str]:
    """Why containers do not run, in their runtime's words."""
    listed = [*(said.get("initContainerStatuses") or ()), *(said.get("containerStatuses") or ())]
    for container in listed:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        if reason and reason not in ("PodInitializing", "ContainerCreating"):
            last = (container.get("lastState") or {}).get("terminated") or {}
            # What the container wrote last says more than "back-off restarting".
            text = str(last.get("message") or waiting.get("message") or "").strip()
            said_last = text.splitlines()[-1] if text else ""
            yield f"container {container['name']}: {reason}: {said_last}".rstrip(": ")


async def _network(
    store: KubernetesStore, status: ClusterStatus, pods: Iterable[ClusterObject]
) -> None:
    """Pods that should have an endpoint, and nodes with complaints of the operator."""
    try:
        endpoints = {(e.key.namespace, e.key.name) for e in await store.list("CiliumEndpoint")}
        nodes = await store.list("CiliumNode")
    except NotFoundError:
        status.warnings.append((OPERATOR, OPERATOR, "the definitions of our kinds are missing"))
        return
    for pod in pods:
        phase = pod.status.get("phase")
        if pod.spec.get("hostNetwork") or phase not in ("Running", "Pending"):
            continue
        if not pod.spec.get("nodeName"):
            continue
        status.pods += 1
        status.managed += (pod.key.namespace, pod.key.name) in endpoints
    for node in nodes:
        ipam = node.status.get("ipam") or {}
        error = (ipam.get("operator-status") or {}).get("error")
        if error:
            status.errors.append((AGENT, node.key.name, f"node {node.key.name}: {error}"))
