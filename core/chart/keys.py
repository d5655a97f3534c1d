"""The chart's table of keys: which Helm value fills which key of the ConfigMap.

It is made of the declared options, so that chart and agent cannot know different keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import yaml

from axoneme.core.config import Option

COMPOSED: Final = frozenset(
    {
        "auto-create-cilium-pod-ip-pools",
        "operator-prometheus-serve-addr",
        "prometheus-serve-addr",
        "unmanaged-pod-watcher-interval",
    }
)
"""Keys that the template composes: of a switch and a port or seconds, of a map of pools."""

WITHOUT: Final = (
    "authentication.enabled",
    "bandwidthManager.enabled",
    "bgpControlPlane.enabled",
    "clustermesh.useAPIServer",
    "egressGateway.enabled",
    "encryption.enabled",
    "endpointRoutes.enabled",
    "envoyConfig.enabled",
    "gatewayAPI.enabled",
    "hubble.enabled",
    "hubble.relay.enabled",
    "hubble.ui.enabled",
    "ingressController.enabled",
    "l2podAnnouncements.enabled",
    "nat46x64Gateway.enabled",
    "pmtuDiscovery.enabled",
    "sctp.enabled",
    "standaloneDnsProxy.enabled",
    "vtep.enabled",
)
"""Switches of Cilium's chart that nothing answers to yet; the notes of an install name them."""


def chart_keys(options: Iterable[Option]) -> str:
    """The file's text: ``keys`` with key and value path, ``without`` an effect."""
    rows = [{"key": o.key, "value": o.helm} for o in options if o.helm and o.key not in COMPOSED]
    known = {row["value"] for row in rows}
    body = {"keys": rows, "without": [w for w in WITHOUT if w not in known]}
    head = "# Made of the declared options: python -m axoneme.core.chart\n"
    return head + yaml.safe_dump(body, sort_keys=False, width=100)
