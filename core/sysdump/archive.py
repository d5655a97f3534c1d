"""The file that a dump is written to: a tar with gzip, readable by its owner alone."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from axoneme.core.errors import AxonemeError

MOST: Final = 32 << 20
"""Bytes of one file; of a longer one its end is kept."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.@=+-]")


class Archive:
    """Adds files below one folder; nothing is at ``path`` until all is written."""

    def __init__(self, path: Path, scrub: Callable[[bytes], bytes]) -> None:
        self.path = path
        self.files = 0
        self.problems: list[str] = []
        """What could not be collected, and why."""
        self._scrub = scrub
        self._folder = path.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
        self._part = path.with_name(f".{path.name}.{os.getpid()}")
        self._time = int(time.time())
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._part, flags, 0o600), "wb")
        except OSError as error:
            raise AxonemeError(f"cannot write {path}: {error.strerror}") from error
        self._tar = tarfile.open(fileobj=self._file, mode="w:gz")  # noqa: SIM115 - see __exit__

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if kind is None:
            self.add_json("problems.json", self.problems)
        self._tar.close()
        self._file.close()
        if kind is None:
            self._part.replace(self.path)
        else:
            self._part.unlink(missing_ok=True)

    def add(self, name: str, data: bytes) -> None:
        """A file; ``name`` may have folders, and whatever is odd in it becomes ``_``."""
        parts = [_UNSAFE.sub("_", part) for part in name.split("/")]
        safe = "/".join(part for part in parts if part.strip("."))
        data = self._scrub(data)
        if len(data) > MOST:
            data = b"(beginning left out)\n" + data[-MOST:]
        info = tarfile.TarInfo(f"{self._folder}/{safe}")
        info.size, info.mtime, info.mode = len(data), self._time, 0o600
        self._tar.addfile(info, io.BytesIO(data))
        self.files += 1

    def add_json(self, name: str, data: Any) -> None:
        """The same for data."""
        self.add(name, (json.dumps(data, indent=1, default=str) + "\n").encode())

    def attempt(self, name: str, collect: Callable[[], Any]) -> None:
        """Add what ``collect`` returns (bytes, else data); what it raises is noted instead."""
        try:
            found = collect()
        except Exception as error:  # one part that is missing never costs the others
            self.problems.append(f"{name}: {str(error) or type(error).__name__}")
            return
        if isinstance(found, bytes):
            self.add(name, found)
        else:
            self.add_json(name, found)
