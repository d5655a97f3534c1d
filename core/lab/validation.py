"""Checks of workloads and services: what an API server would refuse, the lab refuses too.

Only what the lab or the agents rely on is looked at; other fields are kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ObjectKey

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
TEMPLATED: Final = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
MAX_REPLICAS: Final = 1000
COMMAND_ANNOTATION: Final = "lab.axoneme.io/command"
HOSTNAME_LABEL: Final = "kubernetes.io/hostname"


def check(key: ObjectKey, body: Mapping[str, Any], nodes: frozenset[str]) -> None:
    """Raise :class:`InvalidObjectError` naming object and field when a document is bad."""
    fail = _Failure(str(key))
    if key.namespace and not _DNS_LABEL.fullmatch(key.namespace):
        fail("metadata.namespace", f"{key.namespace!r} is not a DNS label")
    if not _DNS_NAME.fullmatch(key.name) or len(key.name) > 253:
        fail("metadata.name", f"{key.name!r} is not a DNS name in small letters")
    if key.kind == "Namespace" and not _DNS_LABEL.fullmatch(key.name):
        fail("metadata.name", f"{key.name!r} is not a DNS label")
    if key.kind == "Pod":
        _pod_spec(fail, "spec", mapping(fail, body, "spec"), nodes)
    if key.kind in TEMPLATED:
        _workload(fail, key, body, nodes)
    if key.kind == "Service":
        _service(fail, mapping(fail, body, "spec"))


class _Failure:
    """Raises for one object."""

    def __init__(self, obj: str) -> None:
        self.obj = obj

    def __call__(self, field: str, message: str) -> None:
        raise InvalidObjectError(self.obj, field, message)


Fail = Callable[[str, str], None]


def mapping(fail: Fail, body: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """The mapping at a dotted path, which must be there."""
    value: Any = body
    for word in path.split("."):
        value = value.get(word)
        if not isinstance(value, Mapping):
            fail(path, "is missing" if value is None else f"must be a mapping, not {value!r}")
    return value  # type: ignore[no-any-return]


def _workload(fail: Fail, key: ObjectKey, body: Mapping[str, Any], nodes: frozenset[str]) -> None:
    spec = mapping(fail, body, "spec")
    replicas = spec.get("replicas", 1)
    if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 0:
        fail("spec.replicas", f"{replicas!r} is not a number of pods")
    elif replicas > MAX_REPLICAS:
        fail("spec.replicas", f"{replicas} is more than the {MAX_REPLICAS} that a lab takes")
    template = mapping(fail, body, "spec.template")
    metadata = template.get("metadata") or {}
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    if not isinstance(labels, Mapping):
        fail("spec.template.metadata.labels", "is missing")
    for name, value in labels.items():  # type: ignore[union-attr]
        if not isinstance(value, str):
            fail(f"spec.template.metadata.labels.{name}", f"must be a string, not {value!r}")
    selector = mapping(fail, body, "spec.selector").get("matchLabels") or {}
    if not isinstance(selector, Mapping):
        fail("spec.selector.matchLabels", "must be a mapping")
    for name, value in selector.items():
        if labels.get(name) != value:  # type: ignore[union-attr]
            fail("spec.selector.matchLabels", f"{name}={value} is not among the template's labels")
    if len(key.name) > 47 and key.kind != "StatefulSet":
        fail("metadata.name", "longer than 47 characters: its pods' names would not fit")
    _pod_spec(fail, "spec.template.spec", mapping(fail, body, "spec.template.spec"), nodes)


def _pod_spec(fail: Fail, path: str, spec: Mapping[str, Any], nodes: frozenset[str]) -> None:
    node = spec.get("nodeName")
    if node is not None and node not in nodes:
        known = ", ".join(sorted(nodes))
        fail(f"{path}.nodeName", f"no node {node!r} in this lab; there are {known}")
    selector = spec.get("nodeSelector") or {}
    if not isinstance(selector, Mapping):
        fail(f"{path}.nodeSelector", "must be a mapping")
    wanted = selector.get(HOSTNAME_LABEL)
    if wanted is not None and wanted not in nodes:
        fail(f"{path}.nodeSelector", f"no node {wanted!r} in this lab")
    containers = spec.get("containers")
    if not isinstance(containers, list) or not containers:
        fail(f"{path}.containers", "must be a list of at least one container")
    for index, container in enumerate(containers or ()):
        here = f"{path}.containers[{index}]"
        if not isinstance(container, Mapping):
            fail(here, "must be a mapping")
        ports = container.get("ports") or []
        if not isinstance(ports, list):
            fail(f"{here}.ports", "must be a list")
        for number, port in enumerate(ports):
            _port(fail, f"{here}.ports[{number}]", port, "containerPort")


def _port(fail: Fail, path: str, port: Any, field: str) -> None:
    if not isinstance(port, Mapping):
        fail(path, "must be a mapping")
    number = port.get(field)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 65535:
        fail(f"{path}.{field}", f"{number!r} is not a port from 1 to 65535")
    protocol = port.get("protocol", "TCP")
    if protocol not in PROTOCOLS:
        fail(f"{path}.protocol", f"{protocol!r} is none of {', '.join(PROTOCOLS)}")


def _service(fail: Fail, spec: Mapping[str, Any]) -> None:
    ports = spec.get("ports") or []
    if not isinstance(ports, list):
        fail("spec.ports", "must be a list")
    for index, port in enumerate(ports):
        _port(fail, f"spec.ports[{index}]", port, "port")
    if spec.get("selector") is not None and not isinstance(spec["selector"], Mapping):
        fail("spec.selector", "must be a mapping")
