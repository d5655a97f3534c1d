"""Options of multi-pool IPAM, with Cilium's names and defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from axoneme.core.config import Config, OptionRegistry
from axoneme.core.errors import InvalidObjectError
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.store.manifest import to_object
from axoneme.plugins.ipam_multi_pool.tables import decode_pool

DEFAULT: Final = "ipam-default-ip-pool"
PRE: Final = "ipam-multi-pool-pre-allocation"
CREATE: Final = "auto-create-cilium-pod-ip-pools"

_NAME: Final = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_START: Final = re.compile(rf"(?:^|[\s,])({_NAME})=")
_WANTED: Final = (
    "POOL=ipv4-cidrs:CIDR,…;ipv4-mask-size:N;ipv6-cidrs:…;ipv6-mask-size:N"
    ";allow-first-ip:BOOL;allow-last-ip:BOOL"
)
MOST_AHEAD: Final = 4096
"""Addresses that a node may ask for in advance."""


def register(options: OptionRegistry) -> None:
    """Declare the keys, and the value of ``ipam`` that switches this plugin on."""
    options.offer("ipam", "multi-pool")
    options.add(
        DEFAULT,
        "string",
        "default",
        "Pool of pods that choose none",
        validate=lambda name: None if re.fullmatch(_NAME, str(name)) else "a pool's name",
    )
    options.add(
        PRE,
        "map",
        "default=8",
        "Addresses that a node keeps ready of each pool: POOL=N,…",
        component="agent",
        validate=_pre_allocation,
        helm="ipam.multiPoolPreAllocation",
    )
    options.add(
        CREATE,
        "string",
        "",
        f"Pools that the operator creates: {_WANTED}",
        component="operator",
        validate=_creation,
        helm="ipam.operator.autoCreateCiliumPodIPPools",
    )


def ahead(config: Config) -> dict[str, int]:
    """Addresses to keep ready, by pool."""
    return {name: int(text) for name, text in config[PRE].items()}


def _pre_allocation(found: Mapping[str, str]) -> str | None:
    for text in found.values():
        if not text.isascii() or not text.isdigit() or int(text) > MOST_AHEAD:
            return f"POOL=N,… with N from 0 to {MOST_AHEAD}, not {text!r}"
    return None


def _creation(text: Any) -> str | None:
    try:
        pools_to_create(str(text))
    except ValueError as error:
        return str(error)
    return None


def pools_to_create(text: str) -> list[dict[str, Any]]:
    """Manifests of CiliumPodIPPools; ``ValueError`` says what is wrong.

    Several pools are separated by blanks or commas; a JSON object of pool and text will do too.
    """
    text = text.strip()
    found: dict[str, str] = {}
    if text.startswith("{"):
        try:
            found = {str(k): str(v) for k, v in json.loads(text).items()}
        except (ValueError, AttributeError):
            raise ValueError(f"a JSON object or {_WANTED}") from None
    else:
        starts = list(_START.finditer(text))
        if text and (not starts or starts[0].start() > 0):
            raise ValueError(f"{_WANTED}, not {text[:40]!r}")
        ends = [*(match.start() for match in starts[1:]), len(text)]
        for match, end in zip(starts, ends, strict=False):
            found[match[1]] = text[match.end() : end]
    return [_manifest(name, settings) for name, settings in found.items()]


def _manifest(name: str, text: str) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in text.strip(" ,").split(";"))):
        key, colon, value = part.partition(":")
        family, _, what = key.partition("-")
        if colon and family in ("ipv4", "ipv6") and what == "cidrs":
            spec.setdefault(family, {})["cidrs"] = [c for c in value.split(",") if c]
        elif colon and family in ("ipv4", "ipv6") and what == "mask-size" and value.isdigit():
            spec.setdefault(family, {})["maskSize"] = int(value)
        elif key in ("allow-first-ip", "allow-last-ip") and value in ("true", "false"):
            spec[f"allow{'First' if 'first' in key else 'Last'}IP"] = value == "true"
        else:
            raise ValueError(f"{_WANTED}; pool {name}: not {part!r}")
    body = {
        "apiVersion": "cilium.io/v2alpha1",
        "kind": "CiliumPodIPPool",
        "metadata": {"name": name},
        "spec": spec,
    }
    try:
        decode_pool(to_object(body, KindRegistry(), "manifest"))
    except InvalidObjectError as error:
        raise ValueError(f"pools that can be: {error}") from None
    return body
