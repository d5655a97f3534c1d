"""Rules as explanations show them: object, path, and the line in the store's file if it has files.

A rule knows its object and its path. Where the store is a folder, the object's file is read again
when somebody asks, so no watch and no decoder pays for lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from attrs import frozen

from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import Origin
from axoneme.core.store import lines, manifest
from axoneme.core.store.model import Store
from axoneme.plugins.policy.explain import Match
from axoneme.plugins.policy.texts import rule_row

MAX_FILES: Final = 64
"""Files read for one answer; further rules are told without a line."""


@frozen
class Place:
    """A file of the store and a line in it."""

    file: str = ""
    line: int = 0


class Origins:
    """Finds lines in the files of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def places(self, origins: Iterable[Origin]) -> dict[Origin, Place]:
        """File and line of each, as far as there are any. Blocking: reads files."""
        found: dict[Origin, Place] = {}
        known: dict[ObjectKey, tuple[str, lines.Document | None]] = {}
        for origin in origins:
            if origin.key not in known and len(known) < MAX_FILES:
                known[origin.key] = self._document(origin.key)
            file, document = known.get(origin.key, ("", None))
            line = document.find(origin.path).line if document else origin.line
            found[origin] = Place(file, line)
        return found

    def _document(self, key: ObjectKey) -> tuple[str, lines.Document | None]:
        path = self._path(key)
        if path is None:
            return "", None
        try:
            with path.open("rb") as file:
                text = file.read(manifest.MAX_BYTES).decode("utf-8")
            documents = lines.documents(text)
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            return "", None
        return (str(path), documents[0]) if len(documents) == 1 else ("", None)

    def _path(self, key: ObjectKey) -> Path | None:
        engine = getattr(self._store, "engine", None)
        path: Path | None = engine.path(key) if engine is not None else None
        return path

    @staticmethod
    def view(match: Match, places: Mapping[Origin, Place]) -> dict[str, Any]:
        """A rule as the API shows it."""
        rule, row = match.rule, rule_row(match.cookie, match.rule)
        key, place = rule.origin.key, places.get(rule.origin, Place())
        return {
            "cookie": match.cookie,
            "object": str(key),
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "path": rule.origin.path,
            "file": place.file,
            "line": place.line,
            "verdict": match.verdict,
            "standing": match.standing,
            "tier": rule.tier.name.lower(),
            "priority": rule.priority,
            "order": rule.order,
            "subject": row.subject,
            "peers": row.peers,
            "ports": row.ports,
            "log": rule.log,
        }
