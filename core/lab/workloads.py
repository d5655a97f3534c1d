"""From workloads to pods: pure, like the controllers and the scheduler of a cluster but smaller.

Names follow Kubernetes (``web-6c8f7d9b5d-x7k2q``, ``db-0``) but are computed, not drawn: the same
workload always has pods of the same names, so running it twice changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from attrs import frozen

from axoneme.core.lab.validation import COMMAND_ANNOTATION
from axoneme.core.model.objects import ClusterObject

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""The letters that Kubernetes uses in generated names: none that spell words."""

_SERVER_OWNED: Final = ("uid", "creationTimestamp", "resourceVersion")


@frozen
class PodPlan:
    """A pod that ought to be there."""

    namespace: str
    name: str
    body: Mapping[str, Any]
    """The Pod manifest, without a node."""
    template: str
    """Hash of everything that cannot change in a running pod."""
    owner: str = ""
    """``Kind/name`` of the workload; empty for a pod that was applied as such."""
    node: str = ""
    """Demanded by ``nodeName`` (or by the DaemonSet); empty: wherever there is room."""

    @property
    def full_name(self) -> str:
        """``NS/POD``."""
        return f"{self.namespace}/{self.name}"

    @property
    def node_selector(self) -> Mapping[str, str]:
        """Labels that the node must have."""
        return self.body["spec"].get("nodeSelector") or {}

    @property
    def ports(self) -> tuple[tuple[int, str], ...]:
        """All container ports with their protocols, each once."""
        found: dict[tuple[int, str], None] = {}
        for container in self.body["spec"].get("containers") or ():
            for port in container.get("ports") or ():
                found[(int(port["containerPort"]), str(port.get("protocol", "TCP")))] = None
        return tuple(found)

    @property
    def command(self) -> str:
        """What to run instead of the responder, from the annotation; empty if nothing."""
        annotations = self.body["metadata"].get("annotations") or {}
        return str(annotations.get(COMMAND_ANNOTATION, ""))


def plan(
    workloads: Iterable[ClusterObject], pods: Iterable[ClusterObject], nodes: Mapping[str, Any]
) -> dict[str, PodPlan]:
    """Every pod that ought to be there, by full name.

    ``pods`` are the Pod objects in the store: those without an owner stand for themselves, those
    with one are made anew from their workload (or not, which is how they go).
    """
    plans: dict[str, PodPlan] = {}
    for workload in workloads:
        if owner_of(workload) is None:
            plans.update({p.full_name: p for p in _expand(workload, nodes)})
    for pod in pods:
        if owner_of(pod) is None:
            single = _single(pod)
            plans[single.full_name] = single
    return plans


def owner_of(obj: ClusterObject) -> str | None:
    """``Kind/name`` of the controller that an object belongs to."""
    for reference in obj.body["metadata"].get("ownerReferences") or ():
        if isinstance(reference, Mapping) and reference.get("controller"):
            return f"{reference.get('kind')}/{reference.get('name')}"
    return None


def place(
    plans: Iterable[PodPlan], placed: Mapping[str, str], nodes: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """The node of each plan, by full name; pods that no node suits are left out.

    ``placed`` holds the pods that run (they stay), ``nodes`` the labels of each node. A new pod
    goes where fewest of its workload's pods are, then where fewest pods are, then by name.
    """
    ordered = sorted(plans, key=lambda p: p.full_name)
    result = {p.full_name: placed[p.full_name] for p in ordered if p.full_name in placed}
    load = Counter(result.values())
    siblings = Counter(
        (p.namespace, p.owner, result[p.full_name]) for p in ordered if p.full_name in result
    )
    for pod in ordered:
        if pod.full_name in result:
            continue
        fitting = [
            name
            for name, labels in nodes.items()
            if (not pod.node or pod.node == name)
            and all(labels.get(k) == v for k, v in pod.node_selector.items())
        ]
        if not fitting:
            continue
        best = min(
            fitting, key=lambda n: (siblings[(pod.namespace, pod.owner, n)], load[n], _natural(n))
        )
        result[pod.full_name] = best
        load[best] += 1
        siblings[(pod.namespace, pod.owner, best)] += 1
    return result


def _natural(name: str) -> tuple[int, str]:
    """Sort key that puts node2 before node10."""
    return (len(name), name)


def _single(pod: ClusterObject) -> PodPlan:
    metadata = {k: v for k, v in pod.body["metadata"].items() if k not in _SERVER_OWNED}
    body = {k: v for k, v in pod.body.items() if k != "status"} | {"metadata": metadata}
    return PodPlan(
        namespace=pod.key.namespace,
        name=pod.key.name,
        body=body,
        template=_template_hash(body),
        node=str(pod.spec.get("nodeName") or ""),
    )


def _expand(workload: ClusterObject, nodes: Mapping[str, Any]) -> Iterator[PodPlan]:
    template = workload.spec["template"]
    kind, name = workload.key.kind, workload.key.name
    short = _letters(_digest(template), 10)
    match kind:
        case "DaemonSet":
            for node in nodes:
                yield _templated(workload, f"{name}-{_letters(_digest(node), 5)}", node)
        case "StatefulSet":
            for index in range(workload.spec.get("replicas", 1)):
                yield _templated(workload, f"{name}-{index}", "")
        case _:
            middle = f"-{short}" if kind == "Deployment" else ""
            for index in range(workload.spec.get("replicas", 1)):
                suffix = _letters(_digest([kind, name, index]), 5)
                yield _templated(workload, f"{name}{middle}-{suffix}", "")


def _templated(workload: ClusterObject, name: str, node: str) -> PodPlan:
    template = workload.spec["template"]
    metadata = dict(template.get("metadata") or {})
    labels = dict(metadata.get("labels") or {})
    if workload.key.kind == "Deployment":
        labels["pod-template-hash"] = _letters(_digest(template), 10)
    if workload.key.kind == "StatefulSet":
        labels["statefulset.kubernetes.io/pod-name"] = name
    metadata |= {
        "name": name,
        "namespace": workload.key.namespace,
        "labels": labels,
        "ownerReferences": [
            {
                "apiVersion": workload.api_version,
                "kind": workload.key.kind,
                "name": workload.key.name,
                "uid": workload.uid,
                "controller": True,
            }
        ],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    return PodPlan(
        namespace=workload.key.namespace,
        name=name,
        body=body,
        template=_template_hash(body),
        owner=f"{workload.key.kind}/{workload.key.name}",
        node=node or str(template["spec"].get("nodeName") or ""),
    )


def _template_hash(body: Mapping[str, Any]) -> str:
    """What a running pod cannot change: its specification and its command, not its labels."""
    spec = {k: v for k, v in body["spec"].items() if k != "nodeName"}
    annotations = body["metadata"].get("annotations") or {}
    return _digest([spec, annotations.get(COMMAND_ANNOTATION)]).hex()[:16]


def _digest(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).digest()


def _letters(digest: bytes, count: int) -> str:
    """The first ``count`` letters of a digest in the alphabet of generated names."""
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:count])
