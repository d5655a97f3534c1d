"""The last good version of every policy object, on disk.

An object that is edited into nonsense keeps its last good rules. That must also hold when the
agent restarts, or was away while the object was edited: a restart must never open what was
closed. One small JSON file per object, written only when its spec has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from axoneme.core.model.objects import ClusterObject, ObjectKey

log = logging.getLogger(__name__)


class LastGood:
    """Bodies by object in one folder. Blocking, a few dozen microseconds each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[ObjectKey, str] = {}

    def remember(self, obj: ClusterObject) -> None:
        """Keep this version. A disk that refuses is logged: the rules in memory stay."""
        text = json.dumps(_essence(obj), sort_keys=True, default=str)
        if self._known.get(obj.key) == text:
            return
        path = self._path(obj.key)
        try:
            if not (path.is_file() and path.read_text() == text):
                self._folder.mkdir(parents=True, exist_ok=True)
                temporary = path.with_suffix(".new")
                temporary.write_text(text)
                temporary.replace(path)
            self._known[obj.key] = text
        except OSError as error:
            log.warning(
                "last good policy not saved", extra={"object": str(obj.key), "error": str(error)}
            )

    def recall(self, key: ObjectKey) -> ClusterObject | None:
        """The version kept of an object, if there is one and it is readable."""
        try:
            body: Any = json.loads(self._path(key).read_text())
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
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def sweep(self, present: Iterable[ObjectKey]) -> None:
        """Drop files of objects that are not ``present``: deleted while the agent was away."""
        keep = {self._path(key).name for key in present}
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
