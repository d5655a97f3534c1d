"""From a pod and its namespace to the labels that make its identity.

The labels under ``io.kubernetes.pod.namespace`` and ``io.cilium.k8s.*`` are written here, from the
object's own metadata; what a user puts there is left out (GO-2022-0959, CVE-2023-39347). Source
of the keys: reference 2.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

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
    # The API server puts this label on every namespace; a folder of manifests may not.
    own = {METADATA_NAME: pod.namespace, **dict(_labels(namespace))}
    labels += [Label(K8S, f"{NAMESPACE_LABEL_PREFIX}.{k}", v) for k, v in own.items()]
    return LabelSet.of(labels)


def identity_labels(
    pod: Pod | None, namespace: Namespace | None, cluster: str, chosen: LabelFilter
) -> LabelSet:
    """The labels that make the identity; those of ``init`` for no pod."""
    if pod is None:
        return INIT
    return chosen.apply(pod_labels(pod, namespace, cluster))


def _labels(namespace: Namespace | None) -> Iterable[tuple[str, str]]:
    return namespace.labels if namespace is not None else ()
