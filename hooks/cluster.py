"""Hooks about cluster objects: which kinds a plugin reads and how they are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks.markers import hookspec

if TYPE_CHECKING:
    from axoneme.core.store.kinds import KindRegistry


@hookspec
def axoneme_register_kinds(kinds: KindRegistry) -> None:
    """Declare kinds of cluster objects: group, version, plural, scope, validation.

    Called once per process before the store is opened. Kinds that nobody declares are kept by
    the store and reported as unknown, never refused.
    """
