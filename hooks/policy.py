"""Hooks of policy: where rules come from beyond the built-in kinds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from axoneme.hooks.markers import hookspec

if TYPE_CHECKING:
    from axoneme.core.model.objects import ClusterObject
    from axoneme.core.model.policy import Rule


@hookspec
def axoneme_decode_policy(obj: ClusterObject) -> Iterable[Rule] | None:
    """Turn a cluster object into policy rules.

    Called for each object of a kind registered with ``policy=True``, on every change. ``None``
    means "not my kind". Raise :class:`axoneme.core.errors.InvalidObjectError` with the field's path
    when the object is bad: its last good rules stay in force and its status says so.
    """
