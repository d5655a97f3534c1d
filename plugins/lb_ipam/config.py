"""Options of LB-IPAM, with Cilium's names."""

from __future__ import annotations

from typing import Final

from axoneme.core.config import OptionRegistry

KEY: Final = "enable-lb-ipam"


def register(options: OptionRegistry) -> None:
    """Declare ``enable-lb-ipam``; ``default-lb-service-ipam`` is the core's."""
    options.add(
        KEY,
        "bool",
        True,
        "Give addresses of CiliumLoadBalancerIPPools to services of type LoadBalancer",
        helm="enableLBIPAM",
    )
