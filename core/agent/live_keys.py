"""The core's configuration keys whose changes need no restart."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from axoneme.core.agent.agent import Agent


def register(agent: Agent) -> None:
    """Follow them."""
    follow = agent.live_options.follow

    def debug(on: bool) -> None:
        logging.getLogger().setLevel(logging.DEBUG if on else logging.INFO)

    def trace(on: bool) -> None:
        agent.plugins.trace = on

    def buffer(limit: int) -> None:
        agent.events.keep(limit)

    def grace(seconds: float) -> None:
        agent.refresher.grace = seconds

    follow("policy-events-buffer", buffer)
    follow("debug", debug)
    follow("plugin-trace", trace)
    follow("identity-change-grace-period", grace)
