"""Results in the shape of the version that was asked for.

https://www.cni.dev/docs/spec/#add-success. What changed between versions: ``ips[].version`` ended
with 1.0.0, ``interfaces[].mtu`` and ``routes[].mtu`` came with 1.1.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from axoneme.core.model.endpoint import AddressPair, Endpoint

Address = IPv4Address | IPv6Address


def make(
    version: str,
    endpoint: Endpoint,
    gateways: Sequence[Address],
    previous: Mapping[str, Any] | None = None,
    route_mtu: int = 0,
) -> dict[str, Any]:
    """The result of an ADD; behind another plugin's result (``prevResult``) ours is added to it."""
    result = dict(previous or {})
    interfaces = _list(result, "interfaces")
    result["cniVersion"] = version
    result["interfaces"] = interfaces + _interfaces(version, endpoint)
    result["ips"] = _list(result, "ips") + _ips(version, endpoint, gateways, len(interfaces) + 1)
    result["routes"] = _list(result, "routes") + _routes(version, endpoint, gateways, route_mtu)
    result.setdefault("dns", {})
    return result


def _list(result: Mapping[str, Any], key: str) -> list[Any]:
    value = result.get(key)
    return list(value) if isinstance(value, list) else []


def _interfaces(version: str, endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": endpoint.ifname, "mac": endpoint.host_mac},
        {
            "name": endpoint.container_ifname,
            "mac": endpoint.mac,
            "sandbox": endpoint.netns,
        },
    ]
    if version == "1.1.0":
        for interface in found:
            interface["mtu"] = endpoint.mtu
    return found


def _gateway(address: Address, gateways: Sequence[Address]) -> Address | None:
    return next((x for x in gateways if x.version == address.version), None)


def _ips(
    version: str, endpoint: Endpoint, gateways: Sequence[Address], interface: int
) -> list[dict[str, Any]]:
    found = []
    for address in AddressPair(endpoint.ipv4, endpoint.ipv6):
        item: dict[str, Any] = {
            "address": f"{address}/{address.max_prefixlen}",
            "interface": interface,
        }
        gateway = _gateway(address, gateways)
        if gateway is not None:
            item["gateway"] = str(gateway)
        if version.startswith("0."):
            item["version"] = str(address.version)
        found.append(item)
    return found


def _routes(
    version: str, endpoint: Endpoint, gateways: Sequence[Address], mtu: int
) -> list[dict[str, Any]]:
    found = []
    for address in AddressPair(endpoint.ipv4, endpoint.ipv6):
        gateway = _gateway(address, gateways)
        if gateway is None:
            continue
        default: dict[str, Any] = {
            "dst": "0.0.0.0/0" if address.version == 4 else "::/0",
            "gw": str(gateway),
        }
        if mtu and version == "1.1.0":
            default["mtu"] = mtu
        found.append({"dst": f"{gateway}/{gateway.max_prefixlen}"})
        found.append(default)
    return found
