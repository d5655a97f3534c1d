"""Pods of this node and namespaces, as slim rows decoded from cluster objects.

Everything in a manifest is a user's text: bounded, typed, and refused by field when it is bad.
A pod's namespace, service account and cluster come from the object's own metadata and spec, never
from its labels (CVE-2023-39347).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import Table, TableRegistry

MAX_CONTAINERS: Final = 256
MAX_PORTS: Final = 1024
MIRROR: Final = "kubernetes.io/config.mirror"


@frozen
class HostPort:
    """A port of the node that leads to a container: ``hostPort``, ``hostIP``."""

    port: int
    container_port: int
    protocol: str = "TCP"
    address: str = ""
    """Empty: all of the node's."""


@frozen
class Pod:
    """Row of table ``pods``. Key: ``(namespace, name)``. Pods without a node yet are in it."""

    namespace: str
    name: str
    uid: str
    node: str
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    service_account: str = ""
    named_ports: tuple[NamedPort, ...] = ()
    host_ports: tuple[HostPort, ...] = ()


@frozen
class Namespace:
    """Row of table ``namespaces``. Key: ``name``."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()


def is_pod(pod: Pod, uid: str) -> bool:
    """Whether nothing speaks against ``uid``, of a request or an endpoint, being the pod's.

    A kubelet names a static pod by a uid that its object, the mirror, carries in an annotation;
    the object's own changes whenever somebody deletes it (Kubernetes, static pods).
    """
    return not uid or not pod.uid or uid in (pod.uid, dict(pod.annotations).get(MIRROR))


def pod_tables(
    tables: TableRegistry,
) -> tuple[Table[tuple[str, str], Pod], Table[str, Namespace]]:
    """Make ``pods`` and ``namespaces``."""
    pods = tables.create(
        "pods",
        Pod,
        key=lambda r: (r.namespace, r.name),
        indexes={"namespace": lambda r: [r.namespace]},
    )
    return pods, tables.create("namespaces", Namespace, key=lambda r: r.name)


def decode_pod(obj: ClusterObject, node: str) -> Pod | None:
    """Read a Pod; ``None`` for one of another node or one that shares the host's network."""
    where, spec = obj.key, obj.spec
    placed = spec.get("nodeName") or ""
    if (placed and placed != node) or spec.get("hostNetwork") is True:
        return None
    return Pod(
        namespace=obj.key.namespace,
        name=obj.key.name,
        uid=obj.uid,
        node=str(placed),
        labels=_pairs(where, "metadata.labels", obj.labels),
        annotations=_pairs(where, "metadata.annotations", obj.annotations),
        service_account=str(spec.get("serviceAccountName") or spec.get("serviceAccount") or ""),
        named_ports=_ports(where, spec),
        host_ports=_host_ports(where, spec),
    )


def decode_namespace(obj: ClusterObject) -> Namespace:
    """Read a Namespace."""
    where = obj.key
    return Namespace(
        obj.key.name,
        _pairs(where, "metadata.labels", obj.labels),
        _pairs(where, "metadata.annotations", obj.annotations),
    )


def _pairs(where: ObjectKey, field: str, values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if not values:
        return ()
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidObjectError(str(where), f"{field}.{key}", "must be text", hint="quote it")
    return tuple(sorted(values.items()))


def _ports(where: ObjectKey, spec: Mapping[str, Any]) -> tuple[NamedPort, ...]:
    containers = [*_list(spec.get("initContainers")), *_list(spec.get("containers"))]
    found: list[NamedPort] = []
    for index, container in enumerate(containers[:MAX_CONTAINERS]):
        for port in _list(container.get("ports")) if isinstance(container, dict) else ():
            if not isinstance(port, dict) or not port.get("name"):
                continue
            number = port.get("containerPort")
            path = f"spec.containers[{index}].ports"
            if not isinstance(number, int) or not 0 < number < 65536:
                raise InvalidObjectError(str(where), path, f"bad containerPort {number!r}")
            found.append(NamedPort(str(port["name"]), number, str(port.get("protocol") or "TCP")))
    return tuple(found[:MAX_PORTS])


def _host_ports(where: ObjectKey, spec: Mapping[str, Any]) -> tuple[HostPort, ...]:
    found: list[HostPort] = []
    for index, container in enumerate(_list(spec.get("containers"))[:MAX_CONTAINERS]):
        for port in _list(container.get("ports")) if isinstance(container, dict) else ():
            if not isinstance(port, dict) or not port.get("hostPort"):
                continue
            path = f"spec.containers[{index}].ports"
            for key in ("hostPort", "containerPort"):
                number = port.get(key)
                if not isinstance(number, int) or not 0 < number < 65536:
                    raise InvalidObjectError(str(where), path, f"bad {key} {number!r}")
            found.append(
                HostPort(
                    port["hostPort"],
                    port["containerPort"],
                    str(port.get("protocol") or "TCP"),
                    str(port.get("hostIP") or ""),
                )
            )
    return tuple(found[:MAX_PORTS])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
