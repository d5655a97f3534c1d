"""The store that the configuration asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from axoneme.core.errors import ConfigError
from axoneme.core.store.folder import FolderStore
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.store.model import Store

if TYPE_CHECKING:
    from axoneme.core.config import Config
    from axoneme.core.plugins import PluginManager


def open_store(config: Config, plugins: PluginManager, saved: Path | None = None) -> Store:
    """Open it, with the kinds that plugins declare; ``saved`` as in :func:`open_kinds`."""
    kinds = KindRegistry()
    plugins.call("axoneme_register_kinds", kinds=kinds)
    return open_kinds(config, kinds, saved)


def open_kinds(config: Config, kinds: KindRegistry, saved: Path | None = None) -> Store:
    """Open it with these kinds.

    ``saved``: a folder in which what is watched over a network is kept, so that this process's
    successor may start while that is down.
    """
    if config.text("store") == "folder":
        return FolderStore(config.path("store-path"), kinds)
    try:
        from axoneme.core.k8s.open import open_kubernetes  # noqa: PLC0415 # an optional part
    except ImportError as error:
        raise ConfigError(
            f"key store is kubernetes, and a library is missing: {error}",
            hint="pip install 'axoneme[kubernetes]'",
        ) from error
    return open_kubernetes(config, kinds, saved)
