"""Where the API server is and as whom to speak to it: kubeconfig or the pod's service account.

The Kubernetes client library reads both, runs credential plugins and renews tokens. Certificates
are read again when their files change: a rotated one counts with the next connection.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, cast

from attrs import define, field
from kubernetes.aio import client, config

from axoneme.core.errors import ConfigError, StoreError

IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
AGENT = "axoneme"


@define
class Access:
    """Servers in the order in which they are tried, and credentials."""

    servers: list[str]
    settings: Any
    """The library's ``Configuration``."""
    _context: ssl.SSLContext | None = None
    _stamp: tuple[int, ...] = ()
    _current: int = field(default=0)

    @property
    def server(self) -> str:
        """The one in use."""
        return self.servers[self._current % len(self.servers)]

    def next_server(self) -> None:
        """Give up on the one in use."""
        self._current += 1

    async def headers(self) -> dict[str, str]:
        """Of every request."""
        found = {"User-Agent": AGENT, "Accept": "application/json"}
        try:
            token = await self.settings.get_api_key_with_prefix("BearerToken")  # renews it, too
        except Exception as error:  # of a credential plugin: whatever it likes
            raise StoreError(f"no token for {self.server}: {error}") from error
        if token:
            found["Authorization"] = token
        return found

    def context(self) -> ssl.SSLContext | bool:
        """For TLS; made again when a certificate's file has changed."""
        if not self.server.startswith("https:"):
            return True
        settings = self.settings
        names = (settings.ssl_ca_cert, settings.cert_file, settings.key_file)
        stamp = tuple(Path(n).stat().st_mtime_ns for n in names if n)
        if self._context is not None and stamp == self._stamp:
            return self._context
        context = ssl.create_default_context(
            cafile=settings.ssl_ca_cert, cadata=settings.ca_cert_data
        )
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, keyfile=settings.key_file)
        if not settings.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._context, self._stamp = context, stamp
        return context


async def open_access(
    kubeconfig: str = "", servers: tuple[str, ...] = (), context: str = ""
) -> Access:
    """From a kubeconfig's context, the current one by default, else as the pod's service account.

    ``servers`` take the place of the one that is named there. ``ConfigError`` if there is neither.
    """
    settings, library = client.Configuration(), cast("Any", config)  # which has no types
    try:
        if kubeconfig:
            await library.load_kube_config(
                config_file=kubeconfig,
                context=context or None,
                client_configuration=settings,
                persist_config=False,
            )
        elif IN_CLUSTER.is_dir():  # noqa: ASYNC240 - once, before anything runs
            library.load_incluster_config(client_configuration=settings)
        else:
            raise ConfigError(
                "store is kubernetes, and there is neither key k8s-kubeconfig-path nor a service"
                f" account in {IN_CLUSTER}"
            )
    except (config.ConfigException, OSError, ValueError) as error:
        where = f"key k8s-kubeconfig-path: {kubeconfig}" if kubeconfig else str(IN_CLUSTER)
        raise ConfigError(f"{where}: {error}") from error
    return Access([s.rstrip("/") for s in servers or (settings.host,)], settings)
