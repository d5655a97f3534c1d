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

    def grace(seconds: float) -> None:
        agent.refresher.grace = seconds

    follow("debug", debug)
    follow("plugin-trace", trace)
    follow("identity-change-grace-period", grace)
