"""Options of commands that work on a whole cluster: which one, and where Axoneme is in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(function: F) -> F:
    """Add ``--kubeconfig``, ``--context`` and ``--namespace``; the command gets ``place``."""

    @click.option("--kubeconfig", default="", metavar="FILE", help="Kubeconfig of the cluster.")
    @click.option("--context", default="", metavar="NAME", help="Context of the kubeconfig.")
    @click.option(
        "-n",
        "--namespace",
        default="kube-system",
        show_default=True,
        envvar="CILIUM_K8S_NAMESPACE",
        help="Where Axoneme is installed.",
    )
    @wraps(function)
    def run(*args: Any, kubeconfig: str, context: str, namespace: str, **kwargs: Any) -> Any:
        from axoneme.core.cluster.connect import Place

        return function(*args, place=Place(kubeconfig, context, namespace), **kwargs)

    return run  # type: ignore[return-value]  # wraps keeps what click looks at
