"""Waiting until the agents have taken in what a command wrote, so that a probe sees it."""

from __future__ import annotations

from axoneme.core.lab.model import Lab
from axoneme.core.lab.output import Output
from axoneme.core.store.sync import SyncStore


def wait(lab: Lab, store: SyncStore, output: Output) -> None:
    """TODO."""
