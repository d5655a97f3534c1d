"""Whether the server can be reached, and since when not: also over restarts of this process."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

FILE = "away"
"""In the folder of saved objects; it is there while the server is away and holds since when."""
MOMENT: Final = 2.0
"""Seconds; a connection that is cut and made again is no outage."""


class Reach:
    """What requests and watches of one client have met."""

    def __init__(self, folder: Path | None = None) -> None:
        self.problem = ""
        """Why the server cannot be reached; empty while it can."""
        self.since: datetime | None = None
        """When the first request in vain was, perhaps one of a predecessor's."""
        self._file = folder / FILE if folder is not None else None
        self._before = self._read()
        self._lost_at = 0.0
        self._heard_at = 0.0

    def lost(self, problem: str, ago: float = 0.0) -> None:
        """A request that nobody answered, or has answered for so many seconds."""
        if not self.problem:
            self.since = self._before or datetime.now(UTC) - timedelta(seconds=ago)
            self._lost_at = time.monotonic() - ago
            self._note(self.since)
        self.problem = problem

    def heard(self) -> None:
        """An answer, of whatever kind, or a piece of one."""
        self._heard_at = time.monotonic()
        if self.problem or self._before is not None:
            self.problem, self.since, self._before = "", None, None
            self._note(None)

    def silence(self, began: float) -> float:
        """Seconds since the server was last heard by those who have waited since ``began``."""
        start = self._lost_at if self.problem else max(began, self._heard_at)
        return time.monotonic() - start

    def away(self) -> str:
        """For people, what is wrong and since when; empty unless it has lasted a moment."""
        return self.text() if self.silence(time.monotonic()) >= MOMENT else ""

    def text(self) -> str:
        """The same from the first moment on."""
        if not self.problem or self.since is None:
            return ""
        return f"the API server {self.problem} (since {self.since:%Y-%m-%d %H:%M:%S} UTC)"

    @property
    def seconds(self) -> float:
        """Of the present outage; 0 if there is none."""
        if self.since is None:
            return 0.0
        return max(0.0, (datetime.now(UTC) - self.since).total_seconds())

    def _read(self) -> datetime | None:
        if self._file is not None:
            with contextlib.suppress(OSError, ValueError):
                found = datetime.fromisoformat(self._file.read_text(encoding="ascii").strip())
                if found.tzinfo is not None and found <= datetime.now(UTC):
                    return found
        return None

    def _note(self, since: datetime | None) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # then a successor counts from its own start
            if since is None:
                self._file.unlink(missing_ok=True)
            else:
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file.write_text(f"{since.isoformat()}\n", encoding="ascii")
