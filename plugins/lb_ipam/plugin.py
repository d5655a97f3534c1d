"""LB-IPAM as a plugin: its option, and a task of the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.lb_ipam import config as options_of

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.operator import Operator

NAME = "lb-ipam"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Addresses out of pools for services of type LoadBalancer"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``enable-lb-ipam``."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Follows ``enable-lb-ipam``."""
    on = config.flag(options_of.KEY)
    return on, f"{options_of.KEY}={str(on).lower()}"


@hookimpl
def axoneme_setup_operator(operator: Operator) -> None:
    """The task and its metrics."""
    from axoneme.plugins.lb_ipam.controller import LoadBalancerIpam

    ipam = LoadBalancerIpam(operator)
    operator.services.provide(LoadBalancerIpam, ipam)
    ipam.register_metrics(operator.metrics)
