"""Services without Kubernetes: ``lb-state-file``, Service and EndpointSlice objects in one file.

It is looked at every second. What cannot be read leaves the last good file in force; a name that
the cluster has too is the cluster's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from axoneme.core.errors import AxonemeError, InvalidObjectError
from axoneme.core.model.balancing import ServiceName
from axoneme.core.model.objects import ClusterObject
from axoneme.core.state import Table
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.store.manifest import MAX_BYTES, load_all, to_object
from axoneme.plugins.services.decode import decode_slice
from axoneme.plugins.services.rows import Service, Slice

log = logging.getLogger(__name__)


class StateFile:
    """Rows of a file in the tables of services and slices."""

    def __init__(
        self,
        path: Path,
        services: Table[ServiceName, Service],
        slices: Table[ServiceName, Slice],
        decode: Callable[[ClusterObject], Service | None],
    ) -> None:
        self.path = path
        self.error = ""
        self.clashes: set[ServiceName] = set()
        """Names that the cluster has."""
        self._tables: tuple[Table[ServiceName, Any], ...] = (services, slices)
        self._decode = decode
        self._kinds = KindRegistry()
        self._seen: tuple[int, int, int] | None = None
        self._rows: tuple[dict[ServiceName, Any], ...] = ({}, {})
        self._ours: tuple[set[ServiceName], ...] = (set(), set())

    def look(self) -> None:
        """Read the file if it is another one. Blocking."""
        try:
            stat = self.path.stat()
            seen: tuple[int, int, int] | None = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        except OSError:
            seen = None
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._rows = self._read(self._text()) if seen else ({}, {})
            self.error = ""
        except (AxonemeError, OSError, UnicodeDecodeError) as error:
            self.error = f"{self.path}: {error}"
            log.warning("state file not taken over", extra={"error": self.error})

    def _text(self) -> str:
        with self.path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise InvalidObjectError(str(self.path), "", f"is larger than {MAX_BYTES} bytes")
        return raw.decode()

    def _read(self, text: str) -> tuple[dict[ServiceName, Any], ...]:
        services: dict[ServiceName, Any] = {}
        slices: dict[ServiceName, Any] = {}
        for body in load_all(text, str(self.path)):
            obj = to_object(body, self._kinds)
            if obj.key.kind == "Service":
                service = self._decode(obj)
                if service is not None:
                    services[service.name] = service
            elif obj.key.kind == "EndpointSlice":
                piece = decode_slice(obj)
                if piece is not None:
                    slices[piece.name] = piece
            else:
                raise InvalidObjectError(
                    str(obj.key), "kind", "is neither Service nor EndpointSlice"
                )
        return services, slices

    def publish(self) -> None:
        """Put the rows into the tables, beside those of the cluster; on the loop's thread."""
        clashes: set[ServiceName] = set()
        for table, rows, ours in zip(self._tables, self._rows, self._ours, strict=True):
            for name in [n for n in ours if n not in rows]:
                self._drop(table, name, ours)
            for name, row in rows.items():
                present = table.get(name)
                if present is not None and name not in ours and present != row:
                    clashes.add(name)
                elif present != row:
                    table.upsert(row)
                    ours.add(name)
        self.clashes = clashes

    @staticmethod
    def _drop(table: Table[ServiceName, Any], name: ServiceName, ours: set[ServiceName]) -> None:
        table.delete(name)
        ours.discard(name)

    def problems(self) -> Iterable[str]:
        """For the status."""
        if self.error:
            yield self.error
        for name in sorted(self.clashes):
            yield f"{self.path}: {'/'.join(name)} is in the cluster too, which counts"
