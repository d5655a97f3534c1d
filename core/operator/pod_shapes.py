"""Pods as the operator needs them to make identities: grouped by what their labels come from.

The pods of a deployment differ in name only. So a pod costs one small row, and labels are worked
out once for each group.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from weakref import WeakKeyDictionary, ref

from attrs import frozen

from axoneme.core.endpoints.pods import Namespace, Pod, decode_pod
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ClusterObject
from axoneme.core.state import Changes

log = logging.getLogger(__name__)

KEYS: Final = 4096
"""Labels' keys whose relevance is remembered: a cluster has few, and the filter takes its time."""
FINISHED: Final = ("Succeeded", "Failed")

Pairs = tuple[tuple[str, str], ...]
Key = tuple[str, str]


@frozen(cache_hash=True)
class Shape:
    """What an identity comes from."""

    namespace: str
    labels: Pairs
    annotations: Pairs
    service_account: str


@frozen
class ShapedPod:
    """Row of table ``pod_shapes``. Key: ``key``."""

    key: Key
    """Namespace and name."""
    shape: Shape


class ShapeDecoder:
    """Pods to rows; pods alike share one :class:`Shape`.

    ``relevant`` says of a label's key whether identities can depend on it; annotations are kept
    only if somebody reads them.
    """

    def __init__(self, relevant: Callable[[str], bool], *, annotations: bool) -> None:
        self._relevant = lru_cache(KEYS)(relevant)
        self._annotations = annotations
        self._shapes: WeakKeyDictionary[Shape, ref[Shape]] = WeakKeyDictionary()

    def __len__(self) -> int:
        """Shapes that somebody has."""
        return len(self._shapes)

    def __call__(self, obj: ClusterObject) -> ShapedPod | None:
        """``None`` for a pod on the host's network, and for one that has ended."""
        if obj.status.get("phase") in FINISHED:
            return None
        pod = decode_pod(obj, str(obj.spec.get("nodeName") or ""))
        if pod is None:
            return None
        shape = Shape(
            pod.namespace,
            tuple(pair for pair in pod.labels if self._relevant(pair[0])),
            pod.annotations if self._annotations else (),
            pod.service_account,
        )
        return ShapedPod((pod.namespace, pod.name), self._shared(shape))

    def _shared(self, shape: Shape) -> Shape:
        known = self._shapes.get(shape)
        present = known() if known is not None else None
        if present is None:
            self._shapes[shape] = ref(shape)
        return present or shape


class WantedLabels:
    """Which label sets pods have, followed through changes of pods and of namespaces."""

    def __init__(self, labels_of: Callable[[Pod, Namespace], LabelSet]) -> None:
        self._labels_of = labels_of
        self._pods: dict[Key, Shape] = {}
        self._users: dict[Shape, int] = {}
        self._in: dict[str, set[Shape]] = {}
        self._labels: dict[Shape, LabelSet] = {}
        self._wanted: dict[LabelSet, set[Shape]] = {}
        self._namespaces: dict[str, Namespace] = {}

    def __contains__(self, labels: LabelSet) -> bool:
        return labels in self._wanted

    def __len__(self) -> int:
        return len(self._wanted)

    def pods_changed(self, changes: Changes[Key, ShapedPod]) -> set[LabelSet]:
        """Take pods over; returns the label sets that are wanted, or no longer wanted, by it."""
        touched: set[LabelSet] = set()
        for key, row in changes.upserted.items():
            old = self._pods.get(key)
            if old is not None and old == row.shape:
                continue
            self._pods[key] = row.shape
            self._add(row.shape, touched)
            self._drop(old, touched)
        for key in changes.deleted:
            self._drop(self._pods.pop(key, None), touched)
        return touched

    def namespaces_changed(self, changes: Changes[str, Namespace]) -> set[LabelSet]:
        """The same for namespaces. The pods of one that is not known have no labels yet."""
        touched: set[LabelSet] = set()
        for name, row in changes.upserted.items():
            self._namespaces[name] = row
            for shape in self._in.get(name, ()):
                self._label(shape, touched)
        for name in changes.deleted:  # its pods go, too, each by itself
            self._namespaces.pop(name, None)
        return touched

    def _add(self, shape: Shape, touched: set[LabelSet]) -> None:
        self._users[shape] = self._users.get(shape, 0) + 1
        if self._users[shape] == 1:
            self._in.setdefault(shape.namespace, set()).add(shape)
            self._label(shape, touched)

    def _drop(self, shape: Shape | None, touched: set[LabelSet]) -> None:
        if shape is None:
            return
        self._users[shape] -= 1
        if self._users[shape]:
            return
        del self._users[shape]
        inside = self._in[shape.namespace]
        inside.discard(shape)
        if not inside:
            del self._in[shape.namespace]
        self._unlabel(shape, touched)

    def _label(self, shape: Shape, touched: set[LabelSet]) -> None:
        namespace = self._namespaces.get(shape.namespace)
        if namespace is None:
            return
        pod = Pod(
            shape.namespace,
            "",
            "",
            "",
            labels=shape.labels,
            annotations=shape.annotations,
            service_account=shape.service_account,
        )
        try:
            labels = self._labels_of(pod, namespace)
        except Exception:  # a plugin's fault must not keep identities from the other pods
            where = {"namespace": shape.namespace, "labels": shape.labels}
            log.exception("pods' labels not worked out", extra=where)
            return
        if self._labels.get(shape) == labels:
            return
        self._unlabel(shape, touched)
        self._labels[shape] = labels
        self._wanted.setdefault(labels, set()).add(shape)
        touched.add(labels)

    def _unlabel(self, shape: Shape, touched: set[LabelSet]) -> None:
        labels = self._labels.pop(shape, None)
        if labels is None:
            return
        shapes = self._wanted[labels]
        shapes.discard(shape)
        if not shapes:
            del self._wanted[labels]
        touched.add(labels)
