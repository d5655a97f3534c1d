"""``axoneme build-config``: what an init container runs before the agent."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from axoneme.core.text import clean

if TYPE_CHECKING:
    from axoneme.core.nodeconfig.build import Built, Request


@click.command("build-config")
@click.option(
    "--dest",
    "--config-dir-out",
    "dest",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for a file per key.",
)
@click.option("--node-name", envvar="K8S_NODE_NAME", default="", help="Node; else the host name.")
@click.option(
    "--namespace",
    envvar="CILIUM_K8S_NAMESPACE",
    default="kube-system",
    show_default=True,
    help="Namespace of the objects.",
)
@click.option("--config-map", default="axoneme-config", show_default=True, help="Its name.")
@click.option(
    "--k8s-kubeconfig-path",
    envvar="AXONEME_K8S_KUBECONFIG_PATH",
    default="",
    help="Kubeconfig; without it the pod's service account.",
)
@click.option(
    "--k8s-api-server-urls",
    envvar="AXONEME_K8S_API_SERVER_URLS",
    default="",
    help="API servers to try in turn.",
)
@click.option(
    "--deadline",
    default=30.0,
    show_default=True,
    help="Seconds without the API server after which an earlier configuration will do.",
)
def build_config(
    *,
    dest: Path,
    node_name: str,
    namespace: str,
    config_map: str,
    k8s_kubeconfig_path: str,
    k8s_api_server_urls: str,
    deadline: float,
) -> int:
    """Write this node's configuration to a folder, one file per key.

    It is what ConfigMap axoneme-config says, and in its place what the
    CiliumNodeConfigs say whose nodeSelector matches the node's labels, in the
    order of their names. The folder is replaced as a whole. While the API
    server is away it tries again; with a configuration of before in the
    folder only until the deadline.

    \b
    axoneme build-config --dest /tmp/axoneme/config-map
    axoneme agent --config-dir /tmp/axoneme/config-map
    """
    import asyncio

    from axoneme.core.nodeconfig.build import Request

    node = node_name or socket.gethostname()
    request = Request(node, namespace, dest, config_map, deadline)
    servers = tuple(k8s_api_server_urls.replace(",", " ").split())
    built = asyncio.run(_build(request, k8s_kubeconfig_path, servers))
    for warning in built.warnings:
        _say(f"warning: {warning}")
    _tell(request, built)
    return 0


async def _build(request: Request, kubeconfig: str, servers: tuple[str, ...]) -> Built:
    from axoneme.core.errors import ConfigError
    from axoneme.core.nodeconfig.build import build

    try:
        from axoneme.core.k8s.access import open_access
        from axoneme.core.k8s.store import KubernetesStore
    except ImportError as error:
        raise ConfigError(
            f"a library is missing: {error}", hint="pip install 'axoneme[kubernetes]'"
        ) from error
    store = KubernetesStore(await open_access(kubeconfig, servers))
    try:
        return await build(store, request, _say)
    finally:
        await store.close()


def _tell(request: Request, built: Built) -> None:
    import time
    from collections import Counter

    from axoneme.core.nodeconfig import folder

    if built.values is None:
        stamp = time.strftime("%F %T %z", time.localtime(folder.written_at(request.dest)))
        _say(f"warning: {built.problem}")
        _say(f"warning: going on with the configuration of {stamp} in {request.dest}")
        return
    counts = Counter(found.origin for found in built.values.values())
    parts = ", ".join(f"{number} of {origin}" for origin, number in counts.items())
    click.echo(clean(f"{len(built.values)} keys in {request.dest}: {parts or 'none'}"))


def _say(text: str) -> None:
    click.echo(clean(" ".join(text.split())), err=True)
