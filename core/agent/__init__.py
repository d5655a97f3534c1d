"""The agent: one per node, where all parts meet; see README.md."""

from axoneme.core.agent.agent import Agent

__all__ = ["Agent"]
