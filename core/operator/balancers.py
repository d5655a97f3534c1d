"""Services that get addresses from outside their cluster, as all who hand out such addresses see
them: one table, one watch, one rule of who serves whom.

A Service is here while it is of type LoadBalancer, and after that until whoever gave it addresses
has taken them out of its status. What cannot be read is said in the row and never makes it vanish:
the addresses in its status are still its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.conditions import has_condition
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import Table
from axoneme.core.store.reflector import Reflector

if TYPE_CHECKING:
    from axoneme.core.config import Config
    from axoneme.core.operator.operator import Operator

Address = IPv4Address | IPv6Address
Name = tuple[str, str]
"""Namespace and name."""

DEFAULT_KEY: Final = "default-lb-service-ipam"
LBIPAM: Final = "lbipam"
NODEIPAM: Final = "nodeipam"
CLASSES: Final = {
    "io.cilium/bgp-control-plane": LBIPAM,
    "io.cilium/l2-announcer": LBIPAM,
    "io.cilium/node": NODEIPAM,
}
FAMILIES: Final = {"IPv4": 4, "IPv6": 6}
POLICIES: Final = ("SingleStack", "PreferDualStack", "RequireDualStack")
PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
MAX_INGRESS: Final = 1000


@frozen
class BalancerService:
    """Row of table ``balancer_services``. Key: ``name``."""

    name: Name
    created: str = "~"
    type: str = "LoadBalancer"
    balancer_class: str = ""
    labels: Mapping[str, str] = field(factory=dict, hash=False)
    annotations: Mapping[str, str] = field(factory=dict, hash=False)
    families: tuple[int, ...] = ()
    """``spec.ipFamilies``: 4 and 6."""
    family_policy: str = ""
    address: str = ""
    """``spec.loadBalancerIP``."""
    ports: frozenset[tuple[int, str]] = frozenset()
    local: bool = False
    """``externalTrafficPolicy`` is Local."""
    selector: Mapping[str, str] = field(factory=dict, hash=False)
    problem: str = ""
    """A field of ``spec`` that cannot be read, and why."""
    status: Mapping[str, Any] = field(factory=dict, hash=False)
    version: str = ""

    @property
    def key(self) -> ObjectKey:
        """Of the object."""
        return ObjectKey("Service", *self.name)

    @property
    def age(self) -> tuple[str, Name]:
        """Sorts older services first."""
        return self.created, self.name

    def ipam(self, default: str) -> str:
        """Who gives it addresses: ``lbipam``, ``nodeipam``, or neither."""
        if self.type != "LoadBalancer":
            return ""
        return CLASSES.get(self.balancer_class, "") if self.balancer_class else default

    def wanted_families(self, config: Config) -> tuple[int, ...]:
        """Families that it is to have, of those that are switched on.

        Without ``ipFamilies``, which an API server always fills in: one for a single stack,
        IPv4 first, else both.
        """
        enabled = tuple(v for v in (4, 6) if config.flag(f"enable-ipv{v}"))
        if self.family_policy == "RequireDualStack":
            return enabled
        named = self.families
        if self.family_policy == "SingleStack":
            named = named[:1]
        if not named:
            return enabled if self.family_policy == "PreferDualStack" else enabled[:1]
        return tuple(v for v in (4, 6) if v in named and v in enabled)


def balancer_services(operator: Operator) -> Table[Name, BalancerService]:
    """The table, made and followed by whoever asks first."""
    if "balancer_services" in operator.tables:
        return operator.tables["balancer_services"]
    table: Table[Name, BalancerService] = operator.tables.create(
        "balancer_services", BalancerService, key=lambda r: r.name
    )
    reflector = Reflector(operator.store, "Service", table, decode_balancer)
    operator.tasks.spawn("reflect Service", reflector.run)
    return table


def decode_balancer(obj: ClusterObject) -> BalancerService | None:
    """A Service of type LoadBalancer, or one whose status still shows that it was."""
    spec, meta = obj.spec, obj.body.get("metadata") or {}
    if spec.get("type") != "LoadBalancer" and not _has_leftovers(obj.status):
        return None
    row = partial(
        BalancerService,
        name=(obj.key.namespace, obj.key.name),
        created=str(meta.get("creationTimestamp") or "~").replace(" ", "T"),
        type=str(spec.get("type") or "ClusterIP"),
        balancer_class=str(spec.get("loadBalancerClass") or ""),
        labels=dict(obj.labels),
        annotations=dict(obj.annotations),
        status=obj.status,
        version=obj.resource_version,
    )
    try:
        return row(**_details(str(obj.key), spec))
    except InvalidObjectError as error:
        return row(problem=f"{error.field}: {error.detail}")


def ingress_of(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """``status.loadBalancer.ingress`` as far as it can be read."""
    balancer = status.get("loadBalancer")
    found = balancer.get("ingress") if isinstance(balancer, Mapping) else None
    listed = found[:MAX_INGRESS] if isinstance(found, list | tuple) else []
    return [entry for entry in listed if isinstance(entry, Mapping)]


def address_of(entry: Mapping[str, Any]) -> Address | None:
    """The address of an entry of ``ingress``; ``None`` if it has none that can be read."""
    try:
        return ip_address(str(entry["ip"])) if entry.get("ip") else None
    except ValueError:
        return None


def _has_leftovers(status: Mapping[str, Any]) -> bool:
    return bool(ingress_of(status)) or any(has_condition(status, kind) for kind in CONDITIONS)


SATISFIED: Final = "cilium.io/IPAMRequestSatisfied"
NODE_SATISFIED: Final = "axoneme.io/NodeIPAMSatisfied"
CONDITIONS: Final = (SATISFIED, NODE_SATISFIED)
"""How those who give addresses mark the services that they serve."""


def _details(where: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "families": _families(where, spec),
        "family_policy": _one_of(where, spec, "ipFamilyPolicy", POLICIES) or "",
        "address": str(spec.get("loadBalancerIP") or ""),
        "ports": frozenset(_ports(where, spec)),
        "local": _one_of(where, spec, "externalTrafficPolicy", ("Cluster", "Local")) == "Local",
        "selector": _selector(where, spec.get("selector")),
    }


def _list(where: str, spec: Mapping[str, Any], key: str) -> list[Any]:
    value = spec.get(key) or []
    if not isinstance(value, list | tuple):
        raise InvalidObjectError(where, f"spec.{key}", "must be a list")
    return list(value)


def _one_of(where: str, spec: Mapping[str, Any], key: str, words: tuple[str, ...]) -> Any:
    value = spec.get(key)
    if value is not None and value not in words:
        raise InvalidObjectError(where, f"spec.{key}", f"{value!r} is none of {', '.join(words)}")
    return value


def _families(where: str, spec: Mapping[str, Any]) -> tuple[int, ...]:
    found = []
    for index, name in enumerate(_list(where, spec, "ipFamilies")):
        if name not in FAMILIES:
            raise InvalidObjectError(
                where, f"spec.ipFamilies[{index}]", f"{name!r} is neither IPv4 nor IPv6"
            )
        found.append(FAMILIES[name])
    return tuple(found)


def _ports(where: str, spec: Mapping[str, Any]) -> list[tuple[int, str]]:
    found = []
    for index, port in enumerate(_list(where, spec, "ports")):
        path = f"spec.ports[{index}]"
        if not isinstance(port, Mapping):
            raise InvalidObjectError(where, path, "must be a mapping")
        number, protocol = port.get("port"), port.get("protocol", "TCP")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 65536:
            raise InvalidObjectError(where, f"{path}.port", f"{number!r} is no port")
        if protocol not in PROTOCOLS:
            raise InvalidObjectError(
                where, f"{path}.protocol", f"{protocol!r} is none of {', '.join(PROTOCOLS)}"
            )
        found.append((number, protocol))
    return found


def _selector(where: str, value: Any) -> dict[str, str]:
    if value is not None and not isinstance(value, Mapping):
        raise InvalidObjectError(where, "spec.selector", "must be a mapping")
    return {str(k): str(v) for k, v in (value or {}).items()}
