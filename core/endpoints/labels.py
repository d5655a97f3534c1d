"""From a pod and its namespace to the labels that make its identity.

The labels under ``io.kubernetes.pod.namespace`` and ``io.cilium.k8s.*`` are written here, from the
object's own metadata; what a user puts there is left out (GO-2022-0959, CVE-2023-39347). Source
of the keys: reference 2.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from attrs import evolve

from axoneme.core.config import Config
from axoneme.core.endpoints.pods import Namespace, Pod
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.model.identity import Reserved, reserved_labels
from axoneme.core.model.labels import (
    CLUSTER_KEY,
    K8S,
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SERVICE_ACCOUNT_KEY,
    Label,
    LabelSet,
)

PodLabels = Callable[..., LabelSet | None]
"""Called with keywords ``pod``, ``namespace`` and ``labels``; ``None`` leaves the labels."""

RESERVED_PREFIX: Final = "io.cilium.k8s."

METADATA_NAME: Final = "kubernetes.io/metadata.name"

INIT: Final = reserved_labels(Reserved.INIT)
"""Labels of an endpoint that nobody has named yet, or of a container without a pod."""


def is_reserved_key(key: str) -> bool:
    """Whether a user must not write the label."""
    return key == NAMESPACE_KEY or key.startswith(RESERVED_PREFIX)


def pod_labels(pod: Pod, namespace: Namespace | None, cluster: str) -> LabelSet:
    """All labels of a pod, before the filter."""
    labels = [Label(K8S, k, v) for k, v in pod.labels if not is_reserved_key(k)]
    labels.append(Label(K8S, NAMESPACE_KEY, pod.namespace))
    labels.append(Label(K8S, CLUSTER_KEY, cluster))
    labels.append(Label(K8S, SERVICE_ACCOUNT_KEY, pod.service_account or "default"))
    # The API server puts this label on every namespace; a folder of manifests may not, or lie.
    own = {**dict(_labels(namespace)), METADATA_NAME: pod.namespace}
    labels += [Label(K8S, f"{NAMESPACE_LABEL_PREFIX}.{k}", v) for k, v in own.items()]
    return LabelSet.of(labels)


class PodLabeller:
    """From a pod and its namespace to identity labels: the same on a node and in the operator."""

    def __init__(
        self, cluster: str, chosen: LabelFilter, plugins: Sequence[PodLabels] = ()
    ) -> None:
        """``plugins``: called in turn, each sees the labels that the one before has left."""
        self._cluster = cluster
        self._chosen = chosen
        self._plugins = plugins

    @classmethod
    def of(cls, config: Config, plugins: Iterable[tuple[str, PodLabels]]) -> PodLabeller:
        """By keys ``cluster-name`` and ``labels``, and by implementations of a hook by plugin."""
        functions = [partial(function, config=config) for _, function in plugins]
        chosen = LabelFilter.from_option(config.words("labels"))
        return cls(config.text("cluster-name"), chosen, functions)

    def __call__(self, pod: Pod, namespace: Namespace) -> LabelSet:
        """The labels that make the identity of a pod."""
        labels = self._chosen.apply(pod_labels(pod, namespace, self._cluster))
        if self._plugins:  # an operator has no more of a pod, so a node shows no more
            pod = evolve(pod, name="", uid="", node="", named_ports=(), host_ports=())
        for function in self._plugins:
            changed = function(pod=pod, namespace=namespace, labels=labels)
            labels = labels if changed is None else changed
        return labels


def _labels(namespace: Namespace | None) -> Iterable[tuple[str, str]]:
    return namespace.labels if namespace is not None else ()
