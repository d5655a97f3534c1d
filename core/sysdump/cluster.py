"""A dump of a cluster: its objects, and the logs of our pods, through the API server.

What an agent knows of itself needs a command in its pod: :data:`Reach` gives a way to ask an agent
by the name of its pod.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from axoneme.core.errors import AxonemeError
from axoneme.core.k8s.exec import execute
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.model.objects import ClusterObject
from axoneme.core.sysdump import node as nodes
from axoneme.core.sysdump import objects
from axoneme.core.sysdump.archive import MOST, Archive
from axoneme.core.sysdump.redact import Scrubber

PART_OF: Final = ("app.kubernetes.io/part-of", "axoneme")
AGENT: Final = ("k8s-app", "axoneme")
"""Labels of all our pods, and of the agents'."""

Reach = Callable[[str, str], nodes.Ask]
"""Namespace and name of an agent's pod to a way to ask its agent."""
T = TypeVar("T")
CONTAINER: Final = "axoneme-agent"
PYTHON: Final = "/opt/axoneme/bin/python"
SCRIPT: Final = (
    "import json, sys; from pathlib import Path; from axoneme.core.api import client; from"
    " axoneme.core.cli.options import DEFAULT_SOCKET as where; print(json.dumps(client.call(where,"
    " sys.argv[1], json.loads(sys.argv[2]), 30.0)))"
)
"""Asks the agent of the same container by its socket: method, parameters."""


def by_exec(store: KubernetesStore, do: Callable[[Coroutine[Any, Any, Any]], Any]) -> Reach:
    """Ask agents by commands in their pods."""

    def reach(namespace: str, pod: str) -> nodes.Ask:
        def ask(method: str, params: Mapping[str, Any] | None = None) -> Any:
            command = (PYTHON, "-c", SCRIPT, method, json.dumps(dict(params or {})))
            access = store.client.access
            done = do(execute(access, namespace, pod, command, container=CONTAINER))
            if done.code:
                raise AxonemeError(f"{pod}: {method}: {done.err.strip()[-300:]}")
            return json.loads(done.out)

        return ask

    return reach


def collect(
    archive: Archive,
    scrubber: Scrubber,
    store: KubernetesStore,
    *,
    lines: int,
    reach: Reach | None = None,
) -> None:
    """Objects, then logs, then agents by ``reach``, else by commands; ``lines`` of each log."""
    with asyncio.Runner() as runner:

        def do(work: Coroutine[Any, Any, T]) -> T:
            return runner.run(work)

        reach = reach or by_exec(store, do)
        try:
            archive.add_json("version.json", do(_version(store)))  # no server: no dump
            known = objects.kinds_of(store.kinds)
            objects.collect(archive, scrubber, known, lambda kind: do(store.list(kind)))
            for pod in _ours(archive, lambda: do(store.list("Pod"))):
                for container in _containers(pod):
                    for before in (False, True):
                        _log(archive, do, store, pod, container, lines=lines, before=before)
                if pod.labels.get(AGENT[0]) == AGENT[1]:
                    ask = reach(pod.key.namespace, pod.key.name)
                    named = str(pod.spec.get("nodeName") or pod.key.name)
                    nodes.collect(nodes.NodeDump(named, ask, archive))
        finally:
            do(store.close())


async def _version(store: KubernetesStore) -> dict[str, Any]:
    return await store.client.call("GET", "/version", "the API server's version")


def _ours(
    archive: Archive, list_pods: Callable[[], Sequence[ClusterObject]]
) -> list[ClusterObject]:
    try:
        found = list_pods()
    except Exception as error:
        archive.problems.append(f"logs: {error}")
        return []
    return [pod for pod in found if PART_OF in pod.labels.items()]


def _containers(pod: ClusterObject) -> list[str]:
    parts = [*(pod.spec.get("initContainers") or ()), *(pod.spec.get("containers") or ())]
    return [str(part.get("name")) for part in parts if isinstance(part, Mapping)]


def _log(
    archive: Archive,
    do: Callable[[Coroutine[Any, Any, str]], str],
    store: KubernetesStore,
    pod: ClusterObject,
    container: str,
    *,
    lines: int,
    before: bool,
) -> None:
    """The log of a container, or of its life ``before`` this one, if there was one."""
    if before and not _restarted(pod, container):
        return
    path = f"/api/v1/namespaces/{pod.key.namespace}/pods/{pod.key.name}/log"
    query = {"container": container, "tailLines": str(lines), "limitBytes": str(MOST)}
    if before:
        query["previous"] = "true"
    name = f"logs/{pod.key.namespace}/{pod.key.name}/{container}{'.previous' if before else ''}.log"
    what = f"log of {pod.key} {container}"
    archive.attempt(name, lambda: do(store.client.text(path, what, query)).encode())


def _restarted(pod: ClusterObject, container: str) -> bool:
    for part in ("initContainerStatuses", "containerStatuses"):
        for status in pod.status.get(part) or ():
            if isinstance(status, Mapping) and status.get("name") == container:
                return bool(status.get("restartCount"))
    return False
