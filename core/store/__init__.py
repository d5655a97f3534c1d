"""Where cluster objects live: one interface, and the folder of manifests behind it."""

from axoneme.core.store.folder import FolderStore
from axoneme.core.store.kinds import Kind, KindRegistry
from axoneme.core.store.model import Store, StoreEvent
from axoneme.core.store.reflector import Reflector

__all__ = ["FolderStore", "Kind", "KindRegistry", "Reflector", "Store", "StoreEvent"]
