"""Who decodes which type. Handed to ``axoneme_register_events``.

A plugin's C either calls ``axo_event_send`` with a type of its own, and then only names that
type and its reasons here; or it writes a record of its own shape, whose first byte is the type,
and gives a decoder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from attrs import frozen

from axoneme.core.errors import AxonemeError
from axoneme.core.events.model import FIRST_PLUGIN_TYPE, LAST_TYPE, Event, EventType
from axoneme.core.events.record import RecordDecoder

log = logging.getLogger(__name__)

Decoder = Callable[[bytes], Event | None]

MAX_RECORD: Final = 4096


@frozen
class EventKind:
    """A declared type. Without ``decode`` its records are ``struct axo_event``."""

    type: int
    name: str
    words: Mapping[int, str]
    decode: Decoder | None = None


class EventRegistry:
    """Types by number. ``bind`` gives the decoder of the fixed record, once it is compiled."""

    def __init__(self) -> None:
        self.kinds: dict[int, EventKind] = {}
        self.malformed = 0
        """Records that nobody could read: unknown type, too short, decoder failed."""
        self._fixed: RecordDecoder | None = None
        self._complained: set[int] = set()

    def add(
        self,
        type: int,
        name: str,
        *,
        reasons: Mapping[int, str] | None = None,
        decode: Decoder | None = None,
    ) -> None:
        """Declare a type from 200 to 255. ``name`` is what ``axoneme monitor -t`` takes.

        ``reasons`` are words for the field ``reason`` of the fixed record. ``decode`` gets the
        whole record and returns an :class:`Event`, or ``None`` to say nothing.
        """
        if not FIRST_PLUGIN_TYPE <= type <= LAST_TYPE:
            raise AxonemeError(
                f"event type {type} of {name}: not within {FIRST_PLUGIN_TYPE} to {LAST_TYPE}"
            )
        if type in self.kinds:
            raise AxonemeError(f"event type {type} is both {self.kinds[type].name} and {name}")
        if name in self.names():
            raise AxonemeError(f"event name {name} is taken")
        self.kinds[type] = EventKind(type, name, dict(reasons or {}), decode)

    def bind(self, decoder: RecordDecoder) -> None:
        """Set the decoder of the fixed record."""
        self._fixed = decoder

    def names(self) -> list[str]:
        """Every name that an event's ``kind`` can have."""
        return ["drop", "trace", "policy-verdict", "agent", *(x.name for x in self.kinds.values())]

    def decode(self, raw: bytes) -> Event | None:
        """An event; ``None``, counted, for what cannot be read. Never raises."""
        event = None
        if raw and len(raw) <= MAX_RECORD:
            try:
                event = self._decode(raw)
            except Exception:
                self._complain(raw[0])
        if event is None:
            self.malformed += 1
        return event

    def _decode(self, raw: bytes) -> Event | None:
        kind = self.kinds.get(raw[0])
        if kind is not None and kind.decode is not None:
            return kind.decode(raw)
        if self._fixed is None:
            return None
        if kind is not None:
            return self._fixed.decode(raw, kind.name, kind.words)
        return self._fixed.decode(raw) if raw[0] in _CORE_TYPES else None

    def _complain(self, type: int) -> None:
        """Once per type: a decoder that fails would fail ten thousand times a second."""
        if type not in self._complained:
            self._complained.add(type)
            log.exception("event decoder failed", extra={"type": type})


_CORE_TYPES: Final = frozenset(EventType) - {EventType.AGENT}
