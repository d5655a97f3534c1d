"""The last good version of every policy object, on disk.

An object that is edited into nonsense keeps its last good rules. That must also hold when the
agent restarts, or was away while the object was edited: a restart must never open what was
closed. One small JSON file per object, written only when its spec has changed.

Making a file takes a millisecond on some disks, as long as all the rest of a change, so a thread
does it. An agent that ends writes what is left; one that is killed may lose the last moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from axoneme.core.model.objects import ClusterObject, ObjectKey

log = logging.getLogger(__name__)


class LastGood:
    """Bodies by object in one folder. Only ``recall`` and ``saved`` wait for the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[ObjectKey, str] = {}
        self._unsaved: dict[ObjectKey, str | None] = {}
        """Texts that are not on disk yet; ``None``: the file is to go."""
        self._writing = False
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="axo-lastgood")

    def remember(self, obj: ClusterObject) -> None:
        """Keep this version. A disk that refuses is logged: the rules in memory stay."""
        text = json.dumps(_essence(obj), sort_keys=True, default=str)
        if self._known.get(obj.key) == text:
            return
        self._known[obj.key] = text
        self._later(obj.key, text)

    def holds(self, obj: ClusterObject) -> bool:
        """Whether rules would be made of what they were made of when this was remembered last."""
        return self._known.get(obj.key) == json.dumps(_essence(obj), sort_keys=True, default=str)

    def recall(self, key: ObjectKey) -> ClusterObject | None:
        """The version kept of an object, if there is one and it is readable."""
        try:
            text = self._text(key)
            if text is None:
                return None
            body: Any = json.loads(text)
            return ClusterObject(key, str(body["apiVersion"]), body=body)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning(
                "last good policy not readable", extra={"object": str(key), "error": str(error)}
            )
            return None

    def forget(self, key: ObjectKey) -> None:
        """The object is deleted."""
        self._known.pop(key, None)
        self._later(key, None)

    def sweep(self, present: Iterable[ObjectKey]) -> None:
        """Drop files of objects that are not ``present``: deleted while the agent was away."""
        keep = {self._path(key).name for key in present}
        self._writer.submit(self._sweep, keep)

    def saved(self) -> None:
        """Return once all is on disk."""
        self._writer.submit(lambda: None).result()

    def _text(self, key: ObjectKey) -> str | None:
        with self._lock:
            if key in self._unsaved:
                return self._unsaved[key]
        return self._path(key).read_text()

    def _later(self, key: ObjectKey, text: str | None) -> None:
        with self._lock:
            self._unsaved[key] = text
            idle, self._writing = not self._writing, True
        if idle:
            self._writer.submit(self._save)

    # In the thread

    def _save(self) -> None:
        """Bring files in line until none is left; what is asked for meanwhile counts as well."""
        while True:
            with self._lock:
                if not self._unsaved:
                    self._writing = False
                    return
                key, text = next(iter(self._unsaved.items()))
            try:
                self._write(self._path(key), text)
            except OSError as error:
                self._known.pop(key, None)
                log.warning(
                    "last good policy not saved", extra={"object": str(key), "error": str(error)}
                )
            with self._lock:
                if self._unsaved[key] is text:
                    del self._unsaved[key]

    def _write(self, path: Path, text: str | None) -> None:
        if text is None:
            path.unlink(missing_ok=True)
        elif not (path.is_file() and path.read_text() == text):
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".new")
            temporary.write_text(text)
            temporary.replace(path)

    def _sweep(self, keep: set[str]) -> None:
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in keep:
                    path.unlink()

    def _path(self, key: ObjectKey) -> Path:
        digest = hashlib.sha256(f"{key.kind}/{key.namespace}/{key.name}".encode()).hexdigest()
        return self._folder / f"{digest[:32]}.json"


def _essence(obj: ClusterObject) -> dict[str, Any]:
    """What rules are made of: no status, no resource version."""
    metadata = {"name": obj.key.name, "namespace": obj.key.namespace}
    body = {k: v for k, v in obj.body.items() if k not in ("metadata", "status")}
    return {"apiVersion": obj.api_version, **body, "metadata": metadata}
