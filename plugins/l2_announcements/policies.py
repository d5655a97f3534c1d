"""CiliumL2AnnouncementPolicy as rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.selectors import LabelSelector, decode_selector

KIND = "CiliumL2AnnouncementPolicy"


@frozen
class L2Policy:
    """Row of table ``l2_policies``. Key: ``name``."""

    name: str
    services: LabelSelector
    nodes: LabelSelector
    interfaces: tuple[str, ...]
    """Regular expressions; none: all native devices."""
    external_ips: bool
    balancer_ips: bool

    def takes_device(self, name: str) -> bool:
        """Whether addresses are announced there."""
        return not self.interfaces or any(re.search(p, name) for p in self.interfaces)


def decode_policy(obj: ClusterObject) -> L2Policy:
    """A policy; what is wrong is named with its field."""
    where, spec = str(obj.key), obj.spec
    return L2Policy(
        obj.key.name,
        decode_selector(where, "spec.serviceSelector", spec.get("serviceSelector")),
        decode_selector(where, "spec.nodeSelector", spec.get("nodeSelector")),
        _interfaces(where, spec),
        _switch(where, spec, "externalIPs"),
        _switch(where, spec, "loadBalancerIPs"),
    )


def _interfaces(where: str, spec: Mapping[str, Any]) -> tuple[str, ...]:
    listed = spec.get("interfaces") or ()
    if not isinstance(listed, list | tuple):
        raise InvalidObjectError(where, "spec.interfaces", "must be a list")
    for index, text in enumerate(listed):
        try:
            re.compile(text)
        except (re.error, TypeError) as error:
            path = f"spec.interfaces[{index}]"
            raise InvalidObjectError(where, path, f"{text!r} is no pattern: {error}") from None
    return tuple(listed)


def _switch(where: str, spec: Mapping[str, Any], key: str) -> bool:
    value = spec.get(key, False)
    if not isinstance(value, bool):
        raise InvalidObjectError(where, f"spec.{key}", f"{value!r} is neither true nor false")
    return value
