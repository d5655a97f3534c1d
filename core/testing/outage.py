"""A folder store that can be away, as an API server may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from axoneme.core.errors import StoreError
from axoneme.core.store.folder import FolderStore

WORDS = "the API server https://api cannot be reached: Connection refused"


class AwayStore(FolderStore):
    """While ``gone`` no verb succeeds; watches go on, as with a store that has saved all."""

    gone = False

    def away(self) -> str:
        """What a Kubernetes store says."""
        return WORDS if self.gone else ""

    async def _do(self, function: Callable[..., Any], *args: Any) -> Any:
        if self.gone and getattr(function, "__self__", None) is self.engine:
            raise StoreError(WORDS)
        return await super()._do(function, *args)
