"""Options of Node IPAM, with Cilium's names."""

from __future__ import annotations

from typing import Final

from axoneme.core.config import OptionRegistry

KEY: Final = "enable-node-ipam"


def register(options: OptionRegistry) -> None:
    """Declare ``enable-node-ipam``; ``default-lb-service-ipam`` is the core's."""
    options.add(
        KEY,
        "bool",
        False,
        "Put nodes' addresses into the status of services of class io.cilium/node",
        helm="nodeIPAM.enabled",
    )
