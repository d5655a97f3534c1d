"""A plugin of one file: endpoints get a label that only their node can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.model.labels import LabelSet

NAME = "zoned"
API_VERSION = 1
SUMMARY = "Labels endpoints by their node"


@hookimpl
def axoneme_label_endpoint(labels: LabelSet, agent: Agent) -> LabelSet:
    """Add ``zone:node=NAME``."""
    from axoneme.core.model.labels import Label, LabelSet

    return LabelSet.of([*labels, Label("zone", "node", agent.node_name)])
