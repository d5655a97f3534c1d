"""Hooks of policy: where rules come from beyond the built-in kinds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from axoneme.hooks.markers import hookspec

if TYPE_CHECKING:
    from axoneme.core.config import Config
    from axoneme.core.model.l7 import L7Registry
    from axoneme.core.model.objects import ClusterObject
    from axoneme.core.model.policy import Rule


@hookspec
def axoneme_decode_policy(obj: ClusterObject) -> Iterable[Rule] | None:
    """Turn a cluster object into policy rules.

    Called for each object of a kind registered with ``policy=True``, on every change. ``None``
    means "not my kind". Raise :class:`axoneme.core.errors.InvalidObjectError` with the field's path
    when the object is bad: its last good rules stay in force and its status says so.
    """


@hookspec
def axoneme_register_l7(protocols: L7Registry, config: Config) -> None:
    """Say which protocols above L4 the plugin's proxy enforces.

    Called once, in agent, operator and command line alike, before policies are read. A rule of a
    protocol that nobody registers cannot be enforced: its policy is refused, never opened.
    """
