"""The last drops and refused packets of this node, kept so that somebody can ask why afterwards.

Records are kept as the kernel wrote them and decoded when somebody asks: keeping one costs the
loop a fraction of a microsecond. While nobody else listens, the packet path tells only these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from axoneme.core.events.model import Event, EventType
from axoneme.core.events.registry import EventRegistry

KEPT: Final = frozenset((int(EventType.DROP), int(EventType.VERDICT)))


class RecentEvents:
    """A ring of raw records; ``limit`` 0 keeps none."""

    def __init__(self, registry: EventRegistry, limit: int = 0) -> None:
        self._registry = registry
        self._records: deque[bytes] = deque(maxlen=limit)

    @property
    def limit(self) -> int:
        """How many are kept."""
        return self._records.maxlen or 0

    @limit.setter
    def limit(self, limit: int) -> None:
        self._records = deque(self._records, maxlen=limit)

    def keep(self, records: Iterable[bytes]) -> None:
        """Take what is a drop or a verdict; the oldest go."""
        self._records.extend(raw for raw in records if raw and raw[0] in KEPT)

    def events(self) -> list[Event]:
        """All that are kept, oldest first."""
        found = map(self._registry.decode, list(self._records))
        return [event for event in found if event is not None]

    def find(self, id: str) -> Event | None:
        """The event with an id, as ``axoneme monitor`` shows it."""
        return next((event for event in self.events() if event.id == id), None)

    def __len__(self) -> int:
        return len(self._records)
