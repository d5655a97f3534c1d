"""What ``axoneme build-config`` does: read a node's configuration at the API server, check it,
write it to files. It runs before each start of an agent, in an init container.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from axoneme.core.boot import declare
from axoneme.core.config import Config
from axoneme.core.config_sources import RawConfig, RawValue
from axoneme.core.errors import ConfigError, NotFoundError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.nodeconfig import folder
from axoneme.core.nodeconfig.objects import (
    CONFIG_MAP,
    KIND,
    decode_config_map,
    decode_node_config,
    lay,
)

if TYPE_CHECKING:
    from axoneme.core.k8s.store import KubernetesStore

Say = Callable[[str], None]


@frozen
class Request:
    """Whose configuration is asked for, and where it is to be written."""

    node: str
    namespace: str
    dest: Path
    config_map: str = CONFIG_MAP
    deadline: float = 30.0
    """Seconds without the server after which what ``dest`` holds already will do."""


@frozen
class Built:
    """What was done. Without ``values`` the configuration of before stays."""

    values: dict[str, RawValue] | None
    warnings: tuple[str, ...] = ()
    problem: str = ""
    """Why the server was not reached."""


async def build(store: KubernetesStore, request: Request, say: Say) -> Built:
    """Read, check, write. Retries while the server is away; all else is an error at once.

    Raises :class:`ConfigError` for a bad value, ``InvalidObjectError`` for a bad object.
    """
    found, problem = await _persist(store, request, say)
    if found is None:
        return Built(None, problem=problem)
    warnings = check(found)
    folder.write(request.dest, found)
    return Built(found, warnings)


async def _persist(
    store: KubernetesStore, request: Request, say: Say
) -> tuple[dict[str, RawValue] | None, str]:
    """Read, again and again; ``None`` and the reason when the folder has to do."""
    from axoneme.core.k8s.client import AwayError, pause  # noqa: PLC0415 - an optional part

    spare = folder.is_complete(request.dest)
    end = asyncio.get_running_loop().time() + request.deadline if spare else None
    said = ""
    for attempt in count():
        try:
            async with asyncio.timeout_at(end):
                try:
                    return await read(store, request), ""
                except AwayError as error:
                    if str(error) != said:
                        said = str(error)
                        say(f"{said}; trying again")
                    await asyncio.sleep(pause(min(attempt, 4)))
        except TimeoutError:
            return None, said or store.client.reach.problem or "no answer"
    raise AssertionError("count ends")


async def read(store: KubernetesStore, request: Request) -> dict[str, RawValue]:
    """The node's values as the server has them now."""
    key = ObjectKey("ConfigMap", request.namespace, request.config_map)
    try:
        config_map = decode_config_map(await store.get(key))
    except NotFoundError:
        raise ConfigError(
            f"there is no {key}", hint="--namespace and --config-map say where it is"
        ) from None
    objects: list[ClusterObject] = []
    # Before the first operator of a cluster has begun the kind is not there, so nor are objects.
    with contextlib.suppress(NotFoundError):
        objects = await store.list(KIND, request.namespace)
    layers = [decode_node_config(obj) for obj in objects]
    labels = await _labels(store, request.node) if layers else {}
    return lay(config_map, layers, labels)


async def _labels(store: KubernetesStore, node: str) -> dict[str, str]:
    try:
        return dict((await store.get(ObjectKey("Node", "", node))).labels)
    except NotFoundError:
        raise ConfigError(
            f"there is no Node {node}, whose labels choose {KIND}s",
            hint="--node-name or the variable K8S_NODE_NAME names it",
        ) from None


def check(values: dict[str, RawValue]) -> tuple[str, ...]:
    """Warnings of unknown keys; :class:`ConfigError` names each bad value and its object."""
    raw = RawConfig(dict(values))
    registry, _ = declare(raw)
    return Config.resolve(registry, raw).warnings
