"""Installing the definitions: by the leading operator, each time that it starts to lead.

Server-side apply, so what an administrator has added (a webhook's conversion, labels) stays. A
definition of a newer release is left alone: two operators of a rolling update do not take turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

from axoneme.core.errors import NotFoundError, StoreError
from axoneme.core.k8s.client import APPLY
from axoneme.core.k8s.definitions.kinds import SCHEMA_VERSION, VERSION_LABEL, manifest
from axoneme.core.k8s.feed import GROUP
from axoneme.core.k8s.store import MANAGER, KubernetesStore
from axoneme.core.store.kinds import Kind

log = logging.getLogger(__name__)

PATH: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PATIENCE: Final = 60.0


def ours(kinds: Iterable[Kind]) -> list[Kind]:
    """Kinds of our group; those of Kubernetes and of others have definitions elsewhere."""
    return [k for k in kinds if k.group == GROUP]


async def install(store: KubernetesStore, patience: float = PATIENCE) -> list[str]:
    """Apply all, and wait until they are served; names of those that have changed."""
    changed = []
    for kind in ours(store.kinds):
        if await install_one(store, kind):
            changed.append(f"{kind.plural}.{kind.group}")
    async with asyncio.timeout(patience):
        for kind in ours(store.kinds):
            while not _is_served(await _get(store, kind)):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.1)
    if changed:
        log.info("definitions installed", extra={"definitions": changed})
    return changed


async def _get(store: KubernetesStore, kind: Kind) -> dict[str, Any]:
    name = f"{kind.plural}.{kind.group}"
    return await store.client.call("GET", f"{PATH}/{name}", f"CustomResourceDefinition {name}")


async def install_one(store: KubernetesStore, kind: Kind) -> bool:
    """Apply the definition of one kind; whether it has changed."""
    wanted = manifest(kind)
    name = wanted["metadata"]["name"]
    before = ""
    try:
        present = await _get(store, kind)
        before = str(present["metadata"].get("resourceVersion"))
        version = (present["metadata"].get("labels") or {}).get(VERSION_LABEL, "")
        if _numbers(version) > _numbers(SCHEMA_VERSION):
            return False
    except NotFoundError:
        pass
    query = {"fieldManager": f"{MANAGER}-operator", "force": "true"}
    answer = await store.client.call(
        "PATCH", f"{PATH}/{name}", f"CustomResourceDefinition {name}",
        query=query, body=wanted, content=APPLY,
    )  # fmt: skip
    return str(answer["metadata"].get("resourceVersion")) != before


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _is_served(definition: dict[str, Any]) -> bool:
    found = (definition.get("status") or {}).get("conditions") or ()
    for condition in found:
        if condition.get("type") == "NamesAccepted" and condition.get("status") == "False":
            raise StoreError(f"{definition['metadata']['name']}: {condition.get('message')}")
    return any(c.get("type") == "Established" and c.get("status") == "True" for c in found)
