"""The core's keys of the store: a folder of manifests, or a Kubernetes API server."""

from __future__ import annotations

import re

from axoneme.core.config import OptionRegistry


def register(options: OptionRegistry) -> None:
    """Declare them; part of :func:`axoneme.core.options.register`."""
    add = options.add
    add(
        "store",
        "string",
        "folder",
        "Where cluster objects live: a folder of manifests, or the Kubernetes API",
        choices=("folder", "kubernetes"),
    )
    add(
        "store-path",
        "string",
        "/var/lib/axoneme/store",
        "Folder of manifests, when store=folder",
    )
    add(
        "k8s-kubeconfig-path",
        "string",
        "",
        "Kubeconfig, when store=kubernetes; without it the pod's service account",
        helm="kubeConfigPath",
    )
    add(
        "k8s-api-server-urls",
        "strings",
        "",
        "API servers to try in turn, in place of the one that the kubeconfig names",
        helm="k8s.apiServerURLs",
    )
    add(
        "k8s-namespace",
        "string",
        "kube-system",
        "Namespace of the agent, of ConfigMap axoneme-config and of CiliumNodeConfigs",
        env=("K8S_NAMESPACE",),
        validate=_namespace,
    )
    add(
        "k8s-client-qps",
        "float",
        10.0,
        "Requests a second to the API server; watches count once",
        min=0,
        helm="k8sClientRateLimit.qps",
    )
    add(
        "k8s-client-burst",
        "int",
        20,
        "Requests at once beyond that",
        min=1,
        helm="k8sClientRateLimit.burst",
    )


def _namespace(name: str) -> str | None:
    if re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
        return None
    return "a DNS label of a-z, 0-9 and '-'"
