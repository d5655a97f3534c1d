"""Puts the plugin to work in an agent that has policy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from axoneme.core.identities.prefixes import PrefixLabels
from axoneme.plugins.fqdn.agent import FqdnAgent
from axoneme.plugins.fqdn.routing import keep_rules

if TYPE_CHECKING:
    from axoneme.core.agent import Agent


def start(agent: Agent) -> FqdnAgent | None:
    """Cache, link to the proxy, collection, routing; ``None`` where nobody enforces policy."""
    if agent.services.find(PrefixLabels) is None:  # type: ignore[type-abstract]
        return None
    names = FqdnAgent(agent)
    names.follow_keys()
    agent.services.provide(FqdnAgent, names)
    agent.tasks.spawn("dns proxy routing", partial(keep_rules, agent))
    return names
