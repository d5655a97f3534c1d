"""What of an object is kept in memory: a hundred thousand pods stay small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_POD_SPEC: Final = ("nodeName", "hostNetwork", "serviceAccountName", "restartPolicy")
_CONTAINER: Final = ("name", "ports", "restartPolicy")
_POD_STATUS: Final = ("phase", "podIP", "podIPs", "hostIP", "hostIPs", "conditions", "reason")
_NODE_SPEC: Final = ("podCIDR", "podCIDRs", "providerID", "taints", "unschedulable")
_NODE_STATUS: Final = ("addresses", "conditions")


def _some(body: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(body, Mapping):
        return {}
    return {n: body[n] for n in names if n in body}


def _pod(body: dict[str, Any]) -> None:
    spec = body.get("spec") or {}
    body["spec"] = _some(spec, _POD_SPEC)
    for name in ("containers", "initContainers"):
        if spec.get(name):
            body["spec"][name] = [_some(c, _CONTAINER) for c in spec[name]]
    body["status"] = _some(body.get("status"), _POD_STATUS)


def _node(body: dict[str, Any]) -> None:
    body["spec"] = _some(body.get("spec"), _NODE_SPEC)
    body["status"] = _some(body.get("status"), _NODE_STATUS)


_KINDS: Final[Mapping[str, Callable[[dict[str, Any]], None]]] = {"Pod": _pod, "Node": _node}


def slim(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body without what only its server, kubectl or a kubelet reads; changed in place."""
    meta = body.get("metadata")
    if isinstance(meta, dict):
        meta.pop("managedFields", None)
        annotations = meta.get("annotations")
        if isinstance(annotations, dict):
            annotations.pop(_LAST_APPLIED, None)
    change = _KINDS.get(kind)
    if change is not None:
        change(body)
    return body
