"""Applying and deleting manifests, and making the pods follow: what controllers do in a cluster.

There is no daemon: each command puts objects into the store, compares the pods that ought to be
there with those that are, and makes the difference. Running it again repairs what failed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import Factory, define

from axoneme.core.errors import NotFoundError
from axoneme.core.lab import pods, services, workloads
from axoneme.core.lab.manifests import Document
from axoneme.core.lab.model import Lab, PodRecord
from axoneme.core.lab.output import Output, count
from axoneme.core.lab.start import namespace_object, node_labels
from axoneme.core.lab.validation import TEMPLATED
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.store.sync import BlockingStore

_FIRST: Final = ("Namespace", "ServiceAccount", "ConfigMap", "Secret", "CiliumCIDRGroup")


@define
class Result:
    """What one command did."""

    applied: int = 0
    deleted: int = 0
    created: list[str] = Factory(list)
    removed: list[str] = Factory(list)
    failures: dict[str, str] = Factory(dict)


def apply(lab: Lab, store: BlockingStore, documents: Sequence[Document], output: Output) -> Result:
    """Write checked documents to the store, policies before pods, then make the pods follow."""
    result = Result()
    for document in documents:
        if not document.known:
            kind = f"{document.body['kind']} ({document.body['apiVersion']})"
            output.warning(f"{document.where}: {kind} is not known here; kept, without effect")
    with output.step(count(len(documents), "object") + " into the store"):
        _ensure_namespaces(store, documents)
        placed = {r.full_name: r.node for r in lab.pods()}
        for document in sorted(documents, key=lambda d: _rank(store, d)):
            store.apply(_prepared(store, document, placed))
            result.applied += 1
    return reconcile(lab, store, output, result)


def delete(lab: Lab, store: BlockingStore, documents: Sequence[Document], output: Output) -> Result:
    """Remove the documents' objects: pods first, so that none outlives its policy or namespace."""
    result = Result()
    keys = dict.fromkeys(d.key for d in documents)
    for space in [key.name for key in keys if key.kind == "Namespace"]:
        keys = dict.fromkeys([*_in_namespace(store, space), *keys])
    there = {key for key in keys if store.exists(key)}
    reconcile(lab, store, output, result, gone=frozenset(keys))
    with output.step(count(len(there), "object") + " out of the store"):
        for key in sorted(keys, key=lambda k: k.kind == "Namespace"):
            if key not in there:
                output.note(f"{key} is not there")
                continue
            result.deleted += 1
            with contextlib.suppress(NotFoundError):  # a pod's went with the pod
                store.delete(key)
    services.reconcile(lab, store)
    return result


def reconcile(
    lab: Lab,
    store: BlockingStore,
    output: Output,
    result: Result,
    *,
    gone: frozenset[ObjectKey] = frozenset(),
) -> Result:
    """Make the pods what the store says, without the objects that are ``gone``."""
    nodes = {node.name: node_labels(node.name) for node in lab.nodes}
    objects = [o for o in store.list("Pod") if o.key not in gone]
    owners = [o for kind in TEMPLATED for o in store.list(kind) if o.key not in gone]
    plans = workloads.plan(owners, objects, nodes)
    records = {r.full_name: r for r in lab.pods()}
    obsolete = [
        r
        for n, r in records.items()
        if n not in plans or plans[n].template != r.template or plans[n].node not in ("", r.node)
    ]
    if obsolete:
        with output.step(f"remove {count(len(obsolete), 'pod')}"):
            result.failures |= pods.destroy(lab, store, obsolete)
            result.removed += [r.full_name for r in obsolete]
    _delete_objects(store, objects, plans, records)
    kept = {n: r.node for n, r in records.items() if n not in set(result.removed)}
    placement = workloads.place(plans.values(), kept, nodes)
    _refresh(store, plans, kept)
    missing = {n: p for n, p in plans.items() if n not in kept and n in placement}
    if missing:
        with output.step(f"start {count(len(missing), 'pod')}"):
            result.failures |= pods.create(lab, store, missing, placement)
            result.created += [n for n in missing if n not in result.failures]
    for name, plan in plans.items():
        if name not in placement:
            result.failures[name] = pods.set_unschedulable(store, plan)
    services.reconcile(lab, store)
    return result


def _delete_objects(
    store: BlockingStore,
    objects: Iterable[ClusterObject],
    plans: dict[str, workloads.PodPlan],
    records: dict[str, PodRecord],
) -> None:
    """Remove Pod objects that never got a namespace and that nobody wants any more."""
    for obj in objects:
        name = f"{obj.key.namespace}/{obj.key.name}"
        if name not in plans and name not in records:
            store.delete(obj.key)


def _refresh(
    store: BlockingStore, plans: dict[str, workloads.PodPlan], kept: dict[str, str]
) -> None:
    """Bring labels and annotations of a workload's running pods to the store, with their node."""
    for name, node in kept.items():
        if name in plans and (plans[name].owner or not plans[name].node):
            body = plans[name].body
            store.apply({**body, "spec": {**body["spec"], "nodeName": node}})


def _rank(store: BlockingStore, document: Document) -> int:
    """Order of writing: what others refer to, then policies, then the rest, workloads last."""
    kind = document.key.kind
    if kind in _FIRST:
        return _FIRST.index(kind)
    if kind == "Pod" or kind in TEMPLATED:
        return 30
    return 10 if document.known and store.kinds.get(kind).policy else 20


def _ensure_namespaces(store: BlockingStore, documents: Iterable[Document]) -> None:
    """Namespaces that objects name and nobody made come into being with their standard label."""
    there = {o.key.name for o in store.list("Namespace")}
    there |= {d.key.name for d in documents if d.key.kind == "Namespace"}
    for namespace in sorted({d.key.namespace for d in documents if d.key.namespace} - there):
        store.apply(namespace_object(namespace))


def _prepared(
    store: BlockingStore, document: Document, placed: Mapping[str, str]
) -> dict[str, object]:
    """The document as an API server would store it.

    A running pod keeps its node, a service its addresses, when the document names none.
    """
    body = dict(document.body)
    metadata = dict(body["metadata"])
    if document.key.kind == "Namespace":
        labels = metadata.get("labels") or {}
        metadata["labels"] = {**labels, "kubernetes.io/metadata.name": document.key.name}
    if document.key.kind == "Pod":
        metadata.pop("ownerReferences", None)
        body.pop("status", None)
        node = placed.get(f"{document.key.namespace}/{document.key.name}")
        if node:
            body["spec"] = {"nodeName": node, **body["spec"]}
    if document.key.kind == "Service" and store.exists(document.key):
        old = store.get(document.key).spec
        kept = {k: old[k] for k in ("clusterIP", "clusterIPs", "ipFamilies") if k in old}
        body["spec"] = {**kept, **body["spec"]}
    return {**body, "metadata": metadata}


def _in_namespace(store: BlockingStore, namespace: str) -> list[ObjectKey]:
    return [
        obj.key
        for kind in store.kinds_present()
        for obj in store.list(kind)
        if obj.key.namespace == namespace and kind != "CiliumEndpoint"
    ]
