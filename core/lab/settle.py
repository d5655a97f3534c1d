"""Waiting until the agents have taken in what a command wrote, so that a probe sees it.

A mark is written into the store last; an agent that shows it has seen everything before it, for a
store delivers in order. Then every pod must be known on every node, with its identity.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

from axoneme.core.errors import AxonemeError
from axoneme.core.lab import agents, processes
from axoneme.core.lab.model import Lab
from axoneme.core.lab.output import Output
from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.sync import BlockingStore

SECONDS: Final = 15.0
GRACE_SECONDS: Final = 0.2
"""From an agent's tables to its maps: one batch of each reconciler."""
MARK: Final = "lab.axoneme.io/mark"
_CARRIER: Final = ObjectKey("Namespace", "", "kube-system")


def wait(lab: Lab, store: BlockingStore, output: Output) -> None:
    """Wait until all running agents are up to date; a warning names those that are not."""
    nodes = [
        n.name for n in lab.nodes if processes.from_pid_file(lab.paths.pid_file(n.name)) is not None
    ]
    if not nodes:
        return
    with output.step("agents have taken it in"):
        mark = _write_mark(store)
        deadline = time.monotonic() + SECONDS
        missing = dict.fromkeys(nodes, "not asked yet")
        while missing and time.monotonic() < deadline:
            wanted = _identities(lab, store)
            labels = _labels(store)
            missing = {n: why for n in missing if (why := _behind(lab, n, mark, wanted, labels))}
            if missing:
                time.sleep(0.02)
        time.sleep(GRACE_SECONDS)
    for name, why in missing.items():
        output.warning(f"{agents.title(name)} is behind: {why}")


def _write_mark(store: BlockingStore) -> str:
    """Change an annotation that every agent watches."""
    mark = uuid.uuid4().hex
    body = store.get(_CARRIER).body
    annotations = {**(body["metadata"].get("annotations") or {}), MARK: mark}
    metadata = {**body["metadata"], "annotations": annotations}
    store.apply({**body, "metadata": metadata})
    return mark


def _identities(lab: Lab, store: BlockingStore) -> Mapping[str, int]:
    """Identity by pod address, 0 as long as it is not known."""
    known = {}
    for endpoint in store.list("CiliumEndpoint"):
        identity = endpoint.status.get("identity")
        if isinstance(identity, Mapping):
            known[endpoint.key.namespace, endpoint.key.name] = int(identity.get("id", 0))
    return {
        str(address): known.get((pod.namespace, pod.name), 0)
        for pod in lab.pods()
        for address in pod.addresses
    }


def _labels(store: BlockingStore) -> dict[str, set[str]]:
    """The labels of each pod by full name, as an endpoint would show them."""
    return {
        f"{pod.key.namespace}/{pod.key.name}": {f"k8s:{k}={v}" for k, v in pod.labels.items()}
        for pod in store.list("Pod")
    }


def _behind(
    lab: Lab, node: str, mark: str, wanted: Mapping[str, int], labels: Mapping[str, set[str]]
) -> str:
    """What an agent has not taken in yet; empty when it has everything."""
    try:
        if not any(mark in str(row.get("annotations")) for row in _rows(lab, node, "namespaces")):
            return "it has not seen the latest objects"
        for row in _rows(lab, node, "endpoints"):
            if row["state"] != "ready":
                return f"endpoint {row['namespace']}/{row['pod']} is {row['state']}"
            stale = _stale(row["labels"], labels.get(f"{row['namespace']}/{row['pod']}", set()))
            if stale:
                return f"endpoint {row['namespace']}/{row['pod']} still has label {stale}"
        known = {
            str(row["prefix"]).partition("/")[0]: row["identity"]
            for row in _rows(lab, node, "ipcache")
        }
    except AxonemeError as error:
        return str(error)
    for address, identity in wanted.items():
        if identity == 0:
            return f"{address} has no identity"
        if known.get(address) != identity:
            return f"it does not know identity {identity} of {address}"
    return ""


def _stale(shown: list[str], wanted: set[str]) -> str:
    """A label of an endpoint whose pod has another value for it, or has it no more.

    Labels with a dot in their key are left out: namespaces and the agent itself add such.
    """
    own = {text for text in shown if text.startswith("k8s:") and "." not in text.partition("=")[0]}
    return next(iter(sorted(own - wanted)), "")


def _rows(lab: Lab, node: str, table: str) -> list[dict[str, Any]]:
    rows = agents.ask(lab.paths, node, "state.rows", {"table": table})
    return [row for row in rows if isinstance(row, dict)]
