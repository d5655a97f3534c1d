"""Where a ``cilium-config`` is read from: a YAML file of the ConfigMap, a folder, a cluster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from axoneme.core.config import Config, OptionRegistry
from axoneme.core.config_sources import MAX_FILE, read_sources
from axoneme.core.errors import ConfigError
from axoneme.core.model.objects import ObjectKey
from axoneme.core.options import register
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.store.open import open_kinds

NAME: Final = "cilium-config"
NAMESPACE: Final = "kube-system"
HOME: Final = ".kube/config"


def read(where: Path | None, namespace: str = NAMESPACE, name: str = NAME) -> Mapping[str, Any]:
    """Keys and values; without a place those of the cluster that kubectl would talk to."""
    if where is None:
        return _cluster(_kubeconfig(), namespace, name)
    if where.is_dir():
        return _plain(config_dir=where)
    if _is_kubeconfig(where):
        return _cluster(str(where), namespace, name)
    return _plain(yaml_file=where)


def _plain(**place: Path) -> Mapping[str, Any]:
    found = read_sources({}, {}, **place).values
    return {key: raw.value for key, raw in found.items()}


def _is_kubeconfig(path: Path) -> bool:
    try:
        if path.stat().st_size > MAX_FILE:
            return False
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return False  # whoever reads it as a configuration says what is wrong
    return isinstance(found, dict) and found.get("kind") == "Config" and "clusters" in found


def _kubeconfig() -> str:
    """As kubectl finds it; empty inside a pod."""
    given = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    home = Path.home() / HOME
    return given or (str(home) if home.is_file() else "")


def _cluster(kubeconfig: str, namespace: str, name: str) -> Mapping[str, Any]:
    registry = OptionRegistry()
    register(registry)
    keys = {"store": "kubernetes", "k8s-kubeconfig-path": kubeconfig}
    store = open_kinds(Config.load(registry, keys), KindRegistry())

    async def get() -> Mapping[str, Any]:
        try:
            obj = await store.get(ObjectKey("ConfigMap", namespace, name))
        finally:
            await store.close()
        data = obj.body.get("data") or {}
        if not isinstance(data, Mapping):
            raise ConfigError(f"{obj.key}: data: must map keys to strings")
        return data

    return asyncio.run(get())
