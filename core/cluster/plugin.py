"""Third-party plugins of an installation: the release's value ``plugins``, changed by helm."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from attrs import frozen

from axoneme.core.cluster.connect import Place
from axoneme.core.cluster.helm import Helm, chart_folder
from axoneme.core.errors import ConfigError
from axoneme.core.k8s.client import APPLY
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.plugin_fetch import read_list

MOST_BYTES: Final = 1 << 20
"""What an object may hold (etcd's limit is 1.5 MiB, base64 takes a third more)."""


@frozen
class Source:
    """Where a plugin comes from; one of ``requirement``, ``wheel`` and ``image``."""

    name: str
    requirement: str = ""
    index: str = ""
    hash: str = ""
    wheel: Path | None = None
    image: str = ""
    values: Mapping[str, str] = {}

    def entry(self) -> dict[str, Any]:
        """Of the chart's list; :class:`ConfigError` says what is wrong with it."""
        given = [bool(self.requirement), self.wheel is not None, bool(self.image)]
        if sum(given) != 1:
            raise ConfigError(f"plugin {self.name}: one of --pip, --wheel and --image is needed")
        entry: dict[str, Any] = {"name": self.name}
        if self.image:
            entry["image"] = self.image
        elif self.wheel is not None:
            found = f"sha256:{hashlib.sha256(self.wheel.read_bytes()).hexdigest()}"
            if self.hash not in ("", found):
                raise ConfigError(f"plugin {self.name}: {self.wheel} has {found}")
            entry |= {"hash": found, "wheel": {"configMap": self.map_name, "key": self.wheel.name}}
        else:
            entry |= {"pip": self.requirement, "hash": self.hash}
            if self.index:
                entry["index"] = self.index
        if not self.image:
            read_list(yaml.safe_dump({"plugins": [entry]}))
        if self.values:
            entry["values"] = dict(self.values)
        return entry

    @property
    def map_name(self) -> str:
        """Of the ConfigMap with the wheel."""
        return f"axoneme-plugin-{self.name}"


def install(place: Place, source: Source, helm: str) -> None:
    """Put the wheel into the cluster, if it is one, and upgrade the release."""
    entry = source.entry()
    command = Helm(place, helm)
    there = [p for p in command.values().get("plugins") or [] if p.get("name") != source.name]
    if source.wheel is not None:
        data = source.wheel.read_bytes()
        if len(data) * 4 // 3 > MOST_BYTES:
            raise ConfigError(
                f"plugin {source.name}: {source.wheel} is too large for a ConfigMap",
                hint="use an index (--pip) or an image (--image)",
            )
        place.run(lambda store: _put(store, place.namespace, source, data))
    command.apply(
        "upgrade", chart_folder(), extra={"plugins": [*there, entry]}, flags=["--reuse-values"]
    )


async def _put(store: KubernetesStore, namespace: str, source: Source, data: bytes) -> None:
    assert source.wheel is not None
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": source.map_name, "namespace": namespace},
        "binaryData": {source.wheel.name: base64.b64encode(data).decode()},
    }
    path = f"/api/v1/namespaces/{namespace}/configmaps/{source.map_name}"
    query = {"fieldManager": "axoneme", "force": "true"}
    await store.client.call("PATCH", path, source.map_name, query=query, body=body, content=APPLY)
