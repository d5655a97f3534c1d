"""CiliumLocalRedirectPolicy as rows.

A policy is about its own namespace: the service that it redirects and the pods that it redirects to
(CVE-2026-53935). An address may be redirected where ``lrp-address-matcher-cidrs`` allows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Final

from attrs import frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.balancing import PROTOCOLS, Address, Network, ServiceName
from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.selectors import LabelSelector, decode_selector

KIND: Final = "CiliumLocalRedirectPolicy"


@frozen
class RedirectPort:
    """A port of either side."""

    name: str
    port: int
    proto: int


@frozen
class RedirectPolicy:
    """Row of table ``redirect_policies``. Key: ``name``. It has a service or an address."""

    name: ServiceName
    pods: LabelSelector
    ports: tuple[RedirectPort, ...]
    """Of the pods."""
    service: str = ""
    address: Address | None = None
    front_ports: tuple[RedirectPort, ...] = ()
    """Of the frontend; none: all of the service's."""


def decode_policy(obj: ClusterObject, allowed: Iterable[Network] = ()) -> RedirectPolicy:
    """A policy; what is wrong is named with its field."""
    where, spec = str(obj.key), obj.spec
    backend = _mapping(where, spec, "redirectBackend", "spec.redirectBackend")
    frontend = _mapping(where, spec, "redirectFrontend", "spec.redirectFrontend")
    if spec.get("skipRedirectFromBackend"):
        raise InvalidObjectError(
            where, "spec.skipRedirectFromBackend", "is not there yet: a backend would meet itself"
        )
    base = "spec.redirectBackend"
    pods = decode_selector(
        where, f"{base}.localEndpointSelector", backend.get("localEndpointSelector")
    )
    ports = _ports(where, backend, f"{base}.toPorts")
    if not ports:
        raise InvalidObjectError(where, f"{base}.toPorts", "is required")
    name = (obj.key.namespace, obj.key.name)
    kinds = [k for k in ("serviceMatcher", "addressMatcher") if frontend.get(k) is not None]
    if len(kinds) != 1:
        raise InvalidObjectError(
            where, "spec.redirectFrontend", "must have either serviceMatcher or addressMatcher"
        )
    path = f"spec.redirectFrontend.{kinds[0]}"
    matcher = _mapping(where, frontend, kinds[0], path)
    fronts = _ports(where, matcher, f"{path}.toPorts")
    _named(where, f"{path}.toPorts", fronts, ports)
    if kinds[0] == "serviceMatcher":
        service = _service(where, obj.key.namespace, matcher, path)
        return RedirectPolicy(name, pods, ports, service=service, front_ports=fronts)
    address = _address(where, matcher, path, list(allowed))
    if not fronts:
        raise InvalidObjectError(where, f"{path}.toPorts", "is required")
    return RedirectPolicy(name, pods, ports, address=address, front_ports=fronts)


def _mapping(where: str, holder: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    value = holder.get(key)
    if not isinstance(value, Mapping):
        raise InvalidObjectError(where, path, "must be a mapping")
    return value


def _service(where: str, namespace: str, matcher: Mapping[str, Any], path: str) -> str:
    service = matcher.get("serviceName")
    if not isinstance(service, str) or not service:
        raise InvalidObjectError(where, f"{path}.serviceName", "is required")
    if matcher.get("namespace") != namespace:
        raise InvalidObjectError(
            where, f"{path}.namespace", f"must be {namespace}, the policy's own namespace"
        )
    return service


def _address(where: str, matcher: Mapping[str, Any], path: str, allowed: list[Network]) -> Address:
    try:
        address: Address = ip_address(matcher.get("ip", ""))
    except ValueError:
        raise InvalidObjectError(
            where, f"{path}.ip", f"{matcher.get('ip')!r} is no address"
        ) from None
    if allowed and not any(address in n for n in allowed):
        raise InvalidObjectError(
            where, f"{path}.ip", f"{address} is not in lrp-address-matcher-cidrs"
        )
    return address


def _ports(where: str, holder: Mapping[str, Any], path: str) -> tuple[RedirectPort, ...]:
    listed = holder.get("toPorts") or ()
    if not isinstance(listed, list | tuple):
        raise InvalidObjectError(where, path, "must be a list")
    return tuple(_port(where, item, f"{path}[{i}]") for i, item in enumerate(listed))


def _port(where: str, item: Any, path: str) -> RedirectPort:
    if not isinstance(item, Mapping):
        raise InvalidObjectError(where, path, "must be a mapping")
    text = str(item.get("port", ""))
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise InvalidObjectError(where, f"{path}.port", f"{text!r} is no port")
    if item.get("protocol") not in ("TCP", "UDP"):
        raise InvalidObjectError(
            where, f"{path}.protocol", f"{item.get('protocol')!r} is neither TCP nor UDP"
        )
    return RedirectPort(str(item.get("name") or ""), int(text), PROTOCOLS[item["protocol"]])


def _named(
    where: str, path: str, fronts: tuple[RedirectPort, ...], backs: tuple[RedirectPort, ...]
) -> None:
    """With several ports each has a name on both sides."""
    if len(fronts) > 1 and ({f.name for f in fronts} != {b.name for b in backs}):
        raise InvalidObjectError(
            where, path, "with several ports, names must be those of the pods'"
        )
