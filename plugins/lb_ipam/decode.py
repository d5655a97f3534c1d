"""CiliumLoadBalancerIPPool objects, and services' annotations, to rows."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from axoneme.core.config import Config
from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.selectors import LabelSelector, decode_selector
from axoneme.core.operator.balancers import (
    SATISFIED,
    Address,
    BalancerService,
    address_of,
    ingress_of,
)
from axoneme.core.operator.statuses import own_addresses
from axoneme.plugins.lb_ipam.rows import Block, Pool, Request

KIND: Final = "CiliumLoadBalancerIPPool"
MAX_BLOCKS: Final = 10_000
MAX_REQUESTED: Final = 100
NAMESPACE_LABEL: Final = "io.kubernetes.service.namespace"
NAME_LABEL: Final = "io.kubernetes.service.name"
IPS: Final = ("lbipam.cilium.io/ips", "io.cilium/lb-ipam-ips")
SHARING_KEY: Final = ("lbipam.cilium.io/sharing-key", "io.cilium/lb-ipam-sharing-key")
SHARING_NAMESPACES: Final = (
    "lbipam.cilium.io/sharing-cross-namespace",
    "io.cilium/lb-ipam-sharing-cross-namespace",
)
_ALLOW_ENDS: Final = {"yes": True, "no": False, "true": True, "false": False}
"""YAML reads an unquoted Yes as true."""


def decode_pool(obj: ClusterObject) -> Pool:
    """A pool. One that is bad has a row that says so, so that its status can say it too."""
    meta = obj.body.get("metadata") or {}
    generation = meta.get("generation")
    common: dict[str, Any] = {
        "name": obj.key.name,
        "created": str(meta.get("creationTimestamp") or "~").replace(" ", "T"),
        "generation": generation if isinstance(generation, int) else None,
        "status": obj.status,
        "version": obj.resource_version,
    }
    try:
        disabled, selector, blocks = _spec(str(obj.key), obj.spec)
    except InvalidObjectError as error:
        return Pool(**common, problem=f"{error.field}: {error.detail}")
    return Pool(**common, disabled=disabled, selector=selector, blocks=blocks)


def _spec(where: str, spec: Mapping[str, Any]) -> tuple[bool, LabelSelector, tuple[Block, ...]]:
    disabled = spec.get("disabled") or False
    if not isinstance(disabled, bool):
        raise InvalidObjectError(where, "spec.disabled", f"{disabled!r} is neither true nor false")
    ends = spec.get("allowFirstLastIPs")
    word = "yes" if ends is None else str(ends).lower()
    if word not in _ALLOW_ENDS:
        raise InvalidObjectError(where, "spec.allowFirstLastIPs", f"{ends!r} is neither Yes nor No")
    if "cidrs" in spec:
        raise InvalidObjectError(where, "spec.cidrs", "is no field any more, use spec.blocks")
    blocks = spec.get("blocks") or ()
    if not isinstance(blocks, list | tuple):
        raise InvalidObjectError(where, "spec.blocks", "must be a list")
    if len(blocks) > MAX_BLOCKS:
        raise InvalidObjectError(
            where, "spec.blocks", f"has {len(blocks)} items, {MAX_BLOCKS} are allowed"
        )
    found = [_block(where, f"spec.blocks[{i}]", b, _ALLOW_ENDS[word]) for i, b in enumerate(blocks)]
    selector = decode_selector(where, "spec.serviceSelector", spec.get("serviceSelector"))
    return disabled, selector, tuple(found)


def _block(where: str, path: str, item: Any, ends: bool) -> Block:
    if not isinstance(item, Mapping):
        raise InvalidObjectError(where, path, "must be a mapping")
    cidr, start, stop = (item.get(key) for key in ("cidr", "start", "stop"))
    if cidr and (start or stop):
        raise InvalidObjectError(where, path, "has both a cidr and a range")
    if cidr:
        return _cidr(where, f"{path}.cidr", cidr, ends)
    if not start:
        raise InvalidObjectError(where, path, "needs a cidr, or a start")
    first = _address(where, f"{path}.start", start)
    last = _address(where, f"{path}.stop", stop) if stop else first
    if first.version != last.version:
        raise InvalidObjectError(where, f"{path}.stop", f"{last} is of another family than {first}")
    if int(last) < int(first):
        raise InvalidObjectError(where, f"{path}.stop", f"{last} is before {first}")
    return Block(first.version, int(first), int(last), f"{first} - {last}")


def _cidr(where: str, path: str, text: Any, ends: bool) -> Block:
    try:
        net: IPv4Network | IPv6Network = ip_network(str(text), strict=False)
    except ValueError:
        raise InvalidObjectError(where, path, f"{text!r} is no CIDR") from None
    if "%" in str(text) or "/" not in str(text):
        raise InvalidObjectError(where, path, f"{text!r} is no CIDR")
    first, last = int(net.network_address), int(net.broadcast_address)
    reserved = frozenset() if ends or last - first < 2 else frozenset([first, last])  # RFC 3021
    return Block(net.version, first, last, str(net), reserved)


def _address(where: str, path: str, text: Any) -> Address:
    try:
        found = parse_address(str(text))
    except ValueError:
        raise InvalidObjectError(where, path, f"{text!r} is no address") from None
    return found


def parse_address(text: str) -> Address:
    """An address without a zone; one of IPv4 in IPv6 form is IPv4."""
    address = ip_address(text.strip())
    if address.version == 6 and address.scope_id:
        raise ValueError(text)
    return (address.ipv4_mapped or address) if address.version == 6 else address


def decode_request(row: BalancerService, config: Config) -> Request:
    """What a service asks for."""
    problem = ("invalid_spec", row.problem) if row.problem else None
    requested: tuple[Address, ...] = ()
    try:
        requested = _requested(row)
    except ValueError as error:
        problem = problem or ("invalid_ip", str(error))
    families = row.wanted_families(config)
    if requested and not (row.families or row.family_policy):
        # Nobody filled in families: the addresses say which are meant.
        families = tuple(v for v in (4, 6) if config.flag(f"enable-ipv{v}"))
    found = (address_of(entry) for entry in ingress_of(row.status))
    spaces = _annotation(row, SHARING_NAMESPACES).split(",")
    return Request(
        name=row.name,
        created=row.created,
        labels={**row.labels, NAMESPACE_LABEL: row.name[0], NAME_LABEL: row.name[1]},
        families=families,
        lacking=_lacking(row, config),
        requested=requested,
        sharing_key=_annotation(row, SHARING_KEY),
        namespaces=frozenset(s.strip() for s in spaces if s.strip()),
        ports=row.ports,
        local=row.local,
        selector=row.selector,
        present=tuple(a for a in found if a is not None),
        given=frozenset(own_addresses(row, SATISFIED)),
        problem=problem,
    )


def _lacking(row: BalancerService, config: Config) -> tuple[int, ...]:
    wanted: tuple[int, ...] = ()
    if row.family_policy == "RequireDualStack":
        wanted = (4, 6)
    elif row.families and not row.wanted_families(config):
        wanted = row.families
    return tuple(v for v in wanted if not config.flag(f"enable-ipv{v}"))


def _annotation(row: BalancerService, names: tuple[str, ...]) -> str:
    return next((row.annotations[n] for n in names if n in row.annotations), "").strip()


def _requested(row: BalancerService) -> tuple[Address, ...]:
    """Of ``spec.loadBalancerIP`` and of the annotation; ``ValueError`` names the field."""
    words = [("spec.loadBalancerIP", row.address)]
    name = next((n for n in IPS if row.annotations.get(n, "").strip()), "")
    if name:
        field = f"metadata.annotations.{name}"
        words += [(field, w) for w in row.annotations[name].split(",")[:MAX_REQUESTED]]
    found = []
    for field, word in words:
        try:
            found += [parse_address(word)] if word.strip() else []
        except ValueError:
            raise ValueError(f"{field}: {word.strip()!r} is no IP address") from None
    return tuple(dict.fromkeys(found))
