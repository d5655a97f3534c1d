"""What this process knows of the cluster, on disk: its successor may start without the server.

For each feed there is a *base*, all objects at one moment, and *logs* of what came after it:

    <state-dir>/objects/Pod%20spec.nodeName%3Dn1.4.base    gzip: a head, then an object a line
    <state-dir>/objects/Pod%20spec.nodeName%3Dn1.4.log     checksum and object, or checksum and name

Valid is the base with the highest number, and after it every log with its number or a higher one,
in order. A base is written aside and renamed; a log grows by one write for each piece of the
stream, before anybody has heard of what is in it. So what can be read here is never older than what
a killed process had done, and nothing is taken back. No fsync: as the endpoints' files these are
about kernel objects of this boot.

Whatever is damaged, or was written by a release that reads other fields, is ignored as a whole.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from axoneme.core.errors import AxonemeError
from axoneme.core.k8s.slim import KINDS

log = logging.getLogger(__name__)

FORMAT: Final = 1
LEAST: Final = 1 << 18
"""Bytes that a log may grow by before a new base is worth its work, at least."""
RETRY: Final = 60.0
"""Seconds after which a folder that could not be written to is tried again."""
BATCH: Final = 1000
Name = tuple[str, str]
"""Namespace and name."""


class DamagedError(AxonemeError):
    """What was saved cannot be used."""


def layout(kind: str) -> str:
    """A fingerprint of the fields that are kept of a kind's objects."""
    schema = msgspec.json.schema(KINDS[kind]) if kind in KINDS else {}
    return f"{zlib.crc32(json.dumps(schema, sort_keys=True).encode()):08x}"


class Saved:
    """The folder, and the thread that writes bases."""

    def __init__(self, folder: Path) -> None:
        """Nothing is touched before the first feed: until then another agent may have it."""
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, "saved-objects")
        self._prepared = False

    def journal(self, scope: str, kind: str) -> Journal:
        """Of one feed."""
        if not self._prepared:
            self._prepared = True
            with contextlib.suppress(OSError):  # each journal will say so
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                for leftover in self.folder.glob(".*.tmp"):
                    leftover.unlink(missing_ok=True)
        return Journal(self.folder, scope, layout(kind), self._thread)

    def keep_only(self, scopes: Iterable[str]) -> None:
        """Remove what is of feeds that there are no more: nobody keeps it up to date."""
        known = set(scopes)
        for path in (*self.folder.glob("*.base"), *self.folder.glob("*.log")):
            if unquote(path.name.rsplit(".", 2)[0]) not in known:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Blocking: finish what is under way."""
        self._thread.shutdown(wait=True)


class Journal:
    """One feed's files. All but :meth:`load` is called on the loop and takes microseconds."""

    def __init__(self, folder: Path, scope: str, form: str, thread: ThreadPoolExecutor) -> None:
        self.problem = ""
        """Why nothing is saved; empty if all is."""
        self._folder, self._form, self._thread = folder, form, thread
        self._stem = quote(scope, safe="")
        self._log = -1
        self._grown = 0
        self._size = 0
        """Bytes of the base's objects."""
        self._writing: Future[None] | None = None
        self._again = 0.0
        self._valid = 0
        """Number of the base that may take its place; a failure takes that back."""
        self._placing = threading.Lock()

    # Reading

    def load(self) -> dict[Name, bytes] | None:
        """Blocking: what a predecessor saved, ``None`` if nothing; ``DamagedError``."""
        bases, logs = self._files("base"), self._files("log")
        if not bases:
            return None
        number = max(bases)
        try:
            found = self._read_base(bases[number])
            for _, path in sorted(item for item in logs.items() if item[0] >= number):
                _read_log(path, found)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise DamagedError(f"{bases[number]}: {error or type(error).__name__}") from error
        return found

    def _read_base(self, path: Path) -> dict[Name, bytes]:
        found: dict[Name, bytes] = {}
        with gzip.open(path) as file:
            head = json.loads(file.readline())
            if (head["format"], head["layout"]) != (FORMAT, self._form):
                raise ValueError("was written by another release")
            for line in file:
                text = line.rstrip(b"\n")
                found[_name(json.loads(text))] = text
        if len(found) != head["count"]:
            raise ValueError(f"holds {len(found)} objects and should hold {head['count']}")
        return found

    # Writing

    def begin(self, texts: Sequence[bytes], *, fresh: bool) -> None:
        """From now on these are saved, and what :meth:`note` adds.

        ``fresh``: what a predecessor left is out of date and goes first, lest it be taken for ours.
        """
        try:
            number = max((*self._files("base"), *self._files("log"), 0)) + 1
            if fresh:
                self._remove(number)
            self._end()
            path = self._path(number, "log")
            self._valid = number
            self._log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._fail(error)
            return
        self._grown, self.problem = 0, ""
        self._writing = self._thread.submit(self._write_base, number, texts)

    def note(self, lines: Sequence[bytes], everything: Callable[[], Sequence[bytes]]) -> None:
        """Objects that are new or changed, and names (:func:`gone`) of those that went."""
        if self._writing is not None and self._writing.done():
            self._finish(self._writing)
        if self._log < 0:
            if self.problem and time.monotonic() >= self._again:
                self.begin(everything(), fresh=True)
            return
        data = b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in lines)
        try:
            if os.write(self._log, data) != len(data):
                raise OSError(f"{self._folder} is full")
        except OSError as error:
            self._fail(error)
            return
        self._grown += len(data)
        if self._grown > max(LEAST, self._size // 2) and self._writing is None:
            self.begin(everything(), fresh=False)

    def close(self) -> None:
        """No more of it; what is there is complete."""
        self._end()

    def _finish(self, writing: Future[None]) -> None:
        self._writing = None
        error = writing.exception()
        if error is not None:
            self._fail(error)

    def _write_base(self, number: int, texts: Sequence[bytes]) -> None:
        path = self._path(number, "base")
        hidden = path.with_name(f".{path.name}.tmp")
        head = {"format": FORMAT, "layout": self._form, "count": len(texts)}
        try:
            with gzip.open(hidden, "wb", compresslevel=1) as file:
                file.write(json.dumps(head).encode() + b"\n")
                for start in range(0, len(texts), BATCH):
                    file.write(b"".join(t + b"\n" for t in texts[start : start + BATCH]))
            hidden.chmod(0o600)
            with self._placing:
                if self._valid != number:  # its log has failed meanwhile
                    hidden.unlink()
                    return
                hidden.rename(path)
                self._remove(number)
        except OSError:
            hidden.unlink(missing_ok=True)
            raise
        self._size = sum(map(len, texts))

    def _fail(self, error: BaseException) -> None:
        """Half of it would be worse than nothing: a successor would go back in time."""
        if not self.problem:
            log.warning("objects not saved", extra={"file": self._stem, "error": str(error)})
        self.problem = f"not saved: {error}"
        self._again = time.monotonic() + RETRY
        self._end()
        with self._placing, contextlib.suppress(OSError):
            self._valid = 0
            self._remove()

    def _end(self) -> None:
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _remove(self, before: int | None = None) -> None:
        """Files with a lower number; all if none is given."""
        for suffix in ("base", "log"):
            for number, path in self._files(suffix).items():
                if before is None or number < before:
                    path.unlink(missing_ok=True)

    def _files(self, suffix: str) -> dict[int, Path]:
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                parts = entry.name.rsplit(".", 2)
                if parts[0] == self._stem and parts[2:] == [suffix] and parts[1].isdigit():
                    found[int(parts[1])] = Path(entry.path)
        return found

    def _path(self, number: int, suffix: str) -> Path:
        return self._folder / f"{self._stem}.{number}.{suffix}"


def gone(namespace: str, name: str) -> bytes:
    """The line that says that an object is there no more."""
    return json.dumps([namespace, name]).encode()


def _read_log(path: Path, found: dict[Name, bytes]) -> None:
    """Put a log's changes into what was found; a last line that a kill tore was never acted on."""
    *lines, _torn = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        text = line[9:]
        if int(line[:8], 16) != zlib.crc32(text):
            raise ValueError(f"line {number} of {path.name} is damaged")
        body = json.loads(text)
        if isinstance(body, list):
            found.pop((str(body[0]), str(body[1])), None)
        else:
            found[_name(body)] = text


def _name(body: object) -> Name:
    if not isinstance(body, dict):
        raise TypeError("not an object")
    meta = body["metadata"]
    return str(meta.get("namespace") or ""), str(meta["name"])
