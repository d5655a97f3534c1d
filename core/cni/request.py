"""What the executable passes on: the environment and the network configuration, decoded.

Everything here comes from outside: it is bounded, typed and checked before anything is touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Any, Final

from attrs import Factory, frozen

from axoneme.core.cni.errors import (
    BAD_CONFIG,
    BAD_ENVIRONMENT,
    INCOMPATIBLE_VERSION,
    NOT_DECODED,
    CniError,
)
from axoneme.core.endpoints.request import CONTAINER_ID, IFNAME, EndpointRequest
from axoneme.core.model.endpoint import AddressPair

VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SINCE: Final = {"check": "0.4.0", "status": "1.1.0", "gc": "1.1.0"}
"""Verbs that older versions do not have."""

MAX_ATTACHMENTS: Final = 10_000


@frozen
class CniRequest:
    """One call of a runtime."""

    version: str
    network: str
    container_id: str = ""
    ifname: str = ""
    netns: str = ""
    args: Mapping[str, str] = Factory(dict)
    mtu: int = 0
    addresses: AddressPair | None = None
    """``runtimeConfig.ips``: addresses that the runtime has chosen itself."""
    previous: Mapping[str, Any] | None = None
    """``prevResult``: what plugins before us in the list, or an earlier ADD, answered."""
    valid_attachments: tuple[str, ...] | None = None
    """GC: ``<containerID>:<ifname>`` of everything that may stay; ``None`` if it was not sent."""

    @property
    def attachment_id(self) -> str:
        """``<containerID>:<ifname>``."""
        return f"{self.container_id}:{self.ifname}"

    def endpoint(self) -> EndpointRequest:
        """What the endpoint manager is asked for."""
        return EndpointRequest(
            container_id=self.container_id,
            ifname=self.ifname,
            netns=self.netns,
            namespace=self.args.get("K8S_POD_NAMESPACE", ""),
            pod=self.args.get("K8S_POD_NAME", ""),
            uid=self.args.get("K8S_POD_UID", ""),
            mtu=self.mtu,
            addresses=self.addresses,
        )


def decode(verb: str, params: Mapping[str, Any]) -> CniRequest:
    """Read the parameters of ``cni.<verb>``; :class:`CniError` names what is wrong."""
    config = _config(verb, params.get("config"))
    version = config.get("cniVersion", "0.3.1" if verb in ("add", "del") else VERSIONS[-1])
    if version not in VERSIONS or _older(version, SINCE.get(verb, VERSIONS[0])):
        raise CniError(
            INCOMPATIBLE_VERSION,
            f"cniVersion {version!r} is not one for {verb.upper()}",
            details=f"supported: {', '.join(VERSIONS)}",
        )
    environment = params.get("env") or {}
    if not isinstance(environment, Mapping):
        raise CniError(BAD_ENVIRONMENT, "the environment is not an object")
    return CniRequest(
        version=version,
        network=_text(config, "name"),
        args=_args(str(environment.get("CNI_ARGS", ""))),
        mtu=_mtu(config),
        addresses=_addresses(config),
        previous=_previous(config),
        valid_attachments=_attachments(config) if verb == "gc" else None,
        **_container(verb, environment),
    )


def _older(version: str, other: str) -> bool:
    return VERSIONS.index(version) < VERSIONS.index(other)


def _config(verb: str, raw: object) -> dict[str, Any]:
    if raw is None and verb == "status":
        return {}  # asked by ourselves, not by a runtime
    if not isinstance(raw, str):
        raise CniError(NOT_DECODED, "no network configuration")
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CniError(NOT_DECODED, f"network configuration is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CniError(NOT_DECODED, "network configuration is not an object")
    return config


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key, "")
    if not isinstance(value, str) or len(value) > 253:
        raise CniError(BAD_CONFIG, f"{key} is not a short text")
    return value


def _mtu(config: Mapping[str, Any]) -> int:
    value = config.get("mtu", 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0 or value > 65535:
        raise CniError(BAD_CONFIG, f"mtu {value!r} is not a number of bytes")
    return value


def _addresses(config: Mapping[str, Any]) -> AddressPair | None:
    """At most one address of each family (CNI conventions, capability ``ips``)."""
    runtime = config.get("runtimeConfig")
    given = runtime.get("ips") if isinstance(runtime, dict) else None
    if not given:
        return None
    found: dict[int, Any] = {}
    try:
        for text in given:
            address = ip_interface(str(text)).ip
            if address.version in found:
                raise ValueError(f"two IPv{address.version} addresses")
            found[address.version] = address
    except (ValueError, TypeError) as error:
        raise CniError(BAD_CONFIG, f"runtimeConfig.ips: {error}") from None
    return AddressPair(found.get(4), found.get(6))


def _previous(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    value = config.get("prevResult")
    if value is not None and not isinstance(value, dict):
        raise CniError(BAD_CONFIG, "prevResult is not an object")
    return value


def _attachments(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    key = "cni.dev/valid-attachments"
    value = config.get(key, config.get("cni.dev/attachments"))
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_ATTACHMENTS:
        raise CniError(BAD_CONFIG, f"{key} is not a list of at most {MAX_ATTACHMENTS}")
    found = []
    for item in value:
        pair = (item.get("containerID"), item.get("ifname")) if isinstance(item, dict) else ()
        if len(pair) != 2 or not all(isinstance(x, str) and x for x in pair):
            raise CniError(BAD_CONFIG, f"{key} holds something without containerID and ifname")
        found.append(f"{pair[0]}:{pair[1]}")
    return tuple(found)


def _container(verb: str, environment: Mapping[str, Any]) -> dict[str, str]:
    """The attachment's names, where the verb is about one."""
    if verb in ("status", "gc"):
        return {}
    container = str(environment.get("CNI_CONTAINERID", ""))
    ifname = str(environment.get("CNI_IFNAME", ""))
    netns = str(environment.get("CNI_NETNS", ""))
    if not CONTAINER_ID.fullmatch(container):
        raise CniError(BAD_ENVIRONMENT, f"CNI_CONTAINERID {container[:64]!r} is not an id")
    if not IFNAME.fullmatch(ifname) or ifname in (".", ".."):
        raise CniError(BAD_ENVIRONMENT, f"CNI_IFNAME {ifname[:32]!r} cannot name a link")
    if not netns and verb != "del":
        raise CniError(BAD_ENVIRONMENT, "CNI_NETNS is missing")
    return {"container_id": container, "ifname": ifname, "netns": netns}


def _args(text: str) -> dict[str, str]:
    """``CNI_ARGS``: ``KEY=value`` with semicolons between; unknown keys are nobody's business."""
    if len(text) > 65536:
        raise CniError(BAD_ENVIRONMENT, "CNI_ARGS is too long")
    found = {}
    for part in filter(None, text.split(";")):
        key, equals, value = part.partition("=")
        if not equals:
            raise CniError(BAD_ENVIRONMENT, f"CNI_ARGS: {part[:64]!r} is not KEY=value")
        found[key] = value
    return found
