"""Notes as rows, and the file that keeps them over a restart."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from axoneme.core.state import Table


@attrs.frozen
class Note:
    """Row of table ``notes``, key ``number``."""

    number: int
    endpoint: str
    word: str


@attrs.frozen
class EventCount:
    """Row of table ``noted_events``, key ``kind``."""

    kind: str
    count: int


def write_down(table: Table[int, Note], endpoint: str, word: str, limit: int) -> None:
    """Add a note; the oldest go when there are more than ``limit``."""
    number = max((note.number for note in table), default=0) + 1
    table.upsert(Note(number, endpoint, word))
    for old in sorted(note.number for note in table)[:-limit]:
        table.delete(old)


def save(table: Table[int, Note], path: Path) -> None:
    """Write all notes in one step."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps([attrs.asdict(note) for note in table]))
    new.replace(path)


def load(table: Table[int, Note], path: Path) -> None:
    """Take over what :func:`save` wrote; a file that cannot be read is no notes."""
    try:
        rows = [Note(**row) for row in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return
    for note in rows:
        table.upsert(note)
