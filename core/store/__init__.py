"""Where cluster objects live: one interface, and the folder of manifests behind it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from axoneme.core.store.folder import FolderStore
    from axoneme.core.store.kinds import Kind, KindRegistry
    from axoneme.core.store.model import Store, StoreEvent
    from axoneme.core.store.reflector import Reflector

__all__ = ["FolderStore", "Kind", "KindRegistry", "Reflector", "Store", "StoreEvent"]


def __getattr__(name: str) -> Any:
    """Load late: who needs only the interface, as plugins do, pays for neither YAML nor inotify."""
    for part in ("folder", "kinds", "model", "reflector") if name in __all__ else ():
        module = import_module(f"{__name__}.{part}")
        if name in vars(module):
            return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
