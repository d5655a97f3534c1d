"""The folder store for programs without a loop: tools, tests, the lab."""

from __future__ import annotations

from pathlib import Path

from axoneme.core.store.engine import FolderEngine
from axoneme.core.store.folder import FolderStore
from axoneme.core.store.kinds import KindRegistry


class SyncStore(FolderEngine):
    """Blocking verbs over a folder, or over the folder of a :class:`FolderStore`."""

    def __init__(self, root: Path | FolderStore, kinds: KindRegistry | None = None) -> None:
        if isinstance(root, FolderStore):
            super().__init__(root.engine.root, kinds or root.kinds)
        else:
            super().__init__(root, kinds)
