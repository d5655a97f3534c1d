"""Where the proxy of each registry listens: what registers a protocol is older than its proxy."""

from __future__ import annotations

from collections.abc import MutableMapping
from weakref import WeakKeyDictionary

from axoneme.core.model.l7 import L7Registry

PORTS: MutableMapping[L7Registry, int] = WeakKeyDictionary()
