"""The ConfigMap of an installation: shown, and changed key by key after a check of each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from axoneme.core.cluster.status import AGENT, CONFIG, OPERATOR
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.config_sources import RawConfig, RawValue
from axoneme.core.errors import ConfigError, NotFoundError
from axoneme.core.k8s.client import MERGE_PATCH
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.model.objects import ObjectKey
from axoneme.core.text import nearest

RESTARTED = "kubectl.kubernetes.io/restartedAt"
PATHS = {AGENT: "daemonsets", OPERATOR: "deployments"}


async def view(store: KubernetesStore, namespace: str) -> dict[str, str]:
    """Keys and values."""
    key = ObjectKey("ConfigMap", namespace, CONFIG)
    try:
        obj = await store.get(key)
    except NotFoundError:
        raise NotFoundError(
            f"there is no ConfigMap {CONFIG} in namespace {namespace}",
            hint="axoneme install puts it there; -n names another namespace",
        ) from None
    return dict(sorted((obj.body.get("data") or {}).items()))


def check(registry: OptionRegistry, key: str, value: str) -> None:
    """Refuse a key that nobody knows and a value that its option does not take."""
    if key not in registry:
        near = nearest(key, [o.key for o in registry])
        hint = f"did you mean {near}?" if near else "--force sets it all the same"
        raise ConfigError(f"no configuration key {key!r}", hint=hint)
    origin = f"ConfigMap {CONFIG}"
    Config.resolve(registry, RawConfig({key: RawValue(value, origin)}))


async def change(
    store: KubernetesStore, namespace: str, changes: Mapping[str, str | None], *, restart: bool
) -> None:
    """Set keys, or remove those whose value is ``None``; then roll out agents and operator."""
    known = await view(store, namespace)
    for key, value in changes.items():
        if value is None and key not in known:
            raise NotFoundError(f"ConfigMap {CONFIG} has no key {key!r}")
    path = f"/api/v1/namespaces/{namespace}/configmaps/{CONFIG}"
    await store.client.call(
        "PATCH", path, CONFIG, body={"data": dict(changes)}, content=MERGE_PATCH
    )
    if restart:
        await roll_out(store, namespace)


async def roll_out(store: KubernetesStore, namespace: str) -> None:
    """Have both workloads start again, node by node."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body: dict[str, Any] = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}}
    for name, plural in PATHS.items():
        path = f"/apis/apps/v1/namespaces/{namespace}/{plural}/{name}"
        await store.client.call("PATCH", path, name, body=body, content=MERGE_PATCH)
