"""Options of the native routing plugin, under Cilium's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry


@frozen
class RoutingSettings:
    """Who puts the routes to other nodes' pods in place, and how strict that is."""

    direct_node_routes: bool
    skip_unreachable: bool

    @classmethod
    def from_config(cls, config: Config) -> RoutingSettings:
        """Read the keys."""
        return cls(
            bool(config["auto-direct-node-routes"]),
            bool(config["direct-routing-skip-unreachable"]),
        )


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    options.add(
        "auto-direct-node-routes",
        "bool",
        False,
        "Route each node's pod CIDR through the node's own address; nodes must share a network.",
        helm="autoDirectNodeRoutes",
    )
    options.add(
        "direct-routing-skip-unreachable",
        "bool",
        False,
        "Leave out, silently, nodes that are not on a directly connected network.",
        helm="directRoutingSkipUnreachable",
    )
