"""The local_redirect plugin: a service's clients get a pod of their own node."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from axoneme.core.errors import ConfigError
from axoneme.hooks import hookimpl

if TYPE_CHECKING:
    import click

    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.status import StatusReport

NAME = "local-redirect"
API_VERSION = 1
REQUIRES = ("services",)
SUMMARY = "Local redirect policies: a service's clients get a pod of their own node"

KEY = "enable-local-redirect-policy"
CIDRS = "lrp-address-matcher-cidrs"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``enable-local-redirect-policy`` and what addresses may be redirected."""
    options.add(
        KEY,
        "bool",
        False,
        "Follow CiliumLocalRedirectPolicy.",
        helm="localRedirectPolicies.enabled",
    )
    options.add(
        CIDRS, "strings", (), "Networks whose addresses policies may redirect; none: all.",
        helm="localRedirectPolicies.addressMatcherCIDRs",
    )  # fmt: skip


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Follows its switch."""
    return bool(config[KEY]), f"{KEY}={str(bool(config[KEY])).lower()}"


@hookimpl
def axoneme_check_config(config: Config) -> None:
    """Networks can be read."""
    for text in config[CIDRS]:
        try:
            ip_network(text)
        except ValueError:
            raise ConfigError(f"key {CIDRS}: {text!r} is no network") from None


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Follow policies."""
    from axoneme.plugins.local_redirect.wiring import LocalRedirects

    agent.services.provide(LocalRedirects, LocalRedirects(agent))


@hookimpl
def axoneme_register_api(api: ApiRouter, agent: Agent) -> None:
    """``lrp.list``."""
    from axoneme.plugins.local_redirect.wiring import LocalRedirects

    async def rows(params: Mapping[str, Any]) -> Any:
        return agent.services.get(LocalRedirects).rows()

    api.add("lrp.list", rows)


@hookimpl
def axoneme_register_commands(root: click.Group) -> None:
    """``axoneme lrp``."""
    from axoneme.plugins.local_redirect.cli import register

    register(root)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Line ``Local Redirect``."""
    from axoneme.plugins.local_redirect.wiring import LocalRedirects

    agent.services.get(LocalRedirects).report(report)
