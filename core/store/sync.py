"""Stores for programs without a loop: tools, tests, the lab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.store.engine import FolderEngine
from axoneme.core.store.folder import FolderStore
from axoneme.core.store.kinds import KindRegistry


class BlockingStore(Protocol):
    """What such a program asks of any store."""

    kinds: KindRegistry

    def list(self, kind: str) -> list[ClusterObject]:
        """Every object of a kind."""
        ...

    def get(self, key: ObjectKey) -> ClusterObject:
        """One object."""
        ...

    def exists(self, key: ObjectKey) -> bool:
        """Whether it is there."""
        ...

    def apply(self, body: Mapping[str, Any]) -> ClusterObject:
        """Create, or replace all but the status."""
        ...

    def update_status(
        self, key: ObjectKey, status: Mapping[str, Any], version: str = ""
    ) -> ClusterObject:
        """Replace the status."""
        ...

    def delete(self, key: ObjectKey, version: str = "") -> None:
        """Delete."""
        ...

    def key_of(self, body: Mapping[str, Any], where: str = "manifest") -> ObjectKey:
        """The key of a manifest."""
        ...

    def kinds_present(self) -> Sequence[str]:
        """Kinds of which there may be objects."""
        ...


class SyncStore(FolderEngine):
    """Blocking verbs over a folder, or over the folder of a :class:`FolderStore`."""

    def __init__(self, root: Path | FolderStore, kinds: KindRegistry | None = None) -> None:
        if isinstance(root, FolderStore):
            super().__init__(root.engine.root, kinds or root.kinds)
        else:
            super().__init__(root, kinds)

    def exists(self, key: ObjectKey) -> bool:
        """Whether its file is there, good or bad."""
        return self.path(key).exists()
