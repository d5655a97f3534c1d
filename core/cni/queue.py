"""Deletions that came while the agent was away, left as files by the executable.

``<state-dir>/cni-delete-queue/<container>-<ifname>.json``. The agent carries them out when it
starts, and looks again now and then: the executable may have found nobody home a moment before.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

from attrs import frozen

log = logging.getLogger(__name__)

FOLDER: Final = "cni-delete-queue"
MAX_BYTES: Final = 65536


@frozen
class QueuedDelete:
    """One deletion and the file that asks for it."""

    attachment_id: str
    path: Path


class DeleteQueue:
    """The folder below the agent's state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / FOLDER

    def pending(self) -> list[QueuedDelete]:
        """What waits, oldest first. A file that cannot be read is removed and named in the log."""
        if not self.folder.is_dir():
            return []
        files = sorted(self.folder.glob("*.json"), key=_age)
        return [x for x in map(_read, files) if x is not None]

    def done(self, item: QueuedDelete) -> None:
        """Forget a deletion that was carried out."""
        item.path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read(path: Path) -> QueuedDelete | None:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_BYTES))
        return QueuedDelete(str(found["attachment_id"]), path)
    except (ValueError, KeyError, TypeError) as error:
        log.warning("queued deletion refused", extra={"file": str(path), "error": str(error)})
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("queued deletion unread", extra={"file": str(path), "error": str(error)})
    return None
