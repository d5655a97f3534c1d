"""Services without Kubernetes: ``lb-state-file``, Service and EndpointSlice objects in one file.

The file holds documents or a ``List``, or one mapping with the lists ``services`` and
``endpoints``, as Cilium's. It is looked at again and again (``lb-state-file-interval``). What
cannot be read, and a file that has gone, leaves the last good one in force. A service that the
cluster has too is the cluster's, with all its slices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from axoneme.core.errors import AxonemeError, InvalidObjectError
from axoneme.core.model.balancing import ServiceName
from axoneme.core.model.objects import ClusterObject
from axoneme.core.state import Table
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.store.manifest import MAX_BYTES, load_all, to_object
from axoneme.plugins.services.decode import decode_slice
from axoneme.plugins.services.rows import Service, Slice

log = logging.getLogger(__name__)

LISTS: Final[Mapping[str, Mapping[str, str]]] = {
    "services": {"apiVersion": "v1", "kind": "Service"},
    "endpoints": {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"},
}
"""Of a file in Cilium's shape: what its objects leave out."""


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
        self._ours: tuple[dict[ServiceName, Any], ...] = ({}, {})
        """What we have put into the tables."""

    def look(self) -> None:
        """Read the file if it is another one. Blocking."""
        try:
            stat = self.path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return
            self._rows = self._read(self._text())
            self._seen = seen
            self._complain("")
        except (AxonemeError, OSError, UnicodeDecodeError) as error:
            self._complain(f"{self.path}: {getattr(error, 'strerror', None) or error}")

    def _complain(self, text: str) -> None:
        if text and text != self.error:
            log.warning("state file not taken over", extra={"error": text})
        self.error = text

    def _text(self) -> str:
        with self.path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise InvalidObjectError(str(self.path), "", f"is larger than {MAX_BYTES} bytes")
        return raw.decode()

    def _read(self, text: str) -> tuple[dict[ServiceName, Any], ...]:
        services: dict[ServiceName, Any] = {}
        slices: dict[ServiceName, Any] = {}
        for body in self._bodies(text):
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

    def _bodies(self, text: str) -> Iterator[Mapping[str, Any]]:
        for body in load_all(text, str(self.path)):
            if "kind" in body or not set(body) & set(LISTS):
                yield body
                continue
            for field, head in LISTS.items():
                listed = body.get(field) or ()
                if not isinstance(listed, list):
                    raise InvalidObjectError(str(self.path), field, "must be a list")
                for number, item in enumerate(listed):
                    if not isinstance(item, Mapping):
                        raise InvalidObjectError(
                            str(self.path), f"{field}[{number}]", "must be a mapping"
                        )
                    yield {**head, **item}

    def publish(self) -> None:
        """Put the rows into the tables, beside those of the cluster; on the loop's thread."""
        services, slices = self._rows
        table = self._tables[0]
        self.clashes = {n for n in services if self._is_clusters(0, n)}
        kept = {n: row for n, row in services.items() if n not in self.clashes}
        foreign = {row.name for row in table if row.name not in kept}
        self._put(0, kept)
        self._put(1, {n: row for n, row in slices.items() if row.service not in foreign})

    def _is_clusters(self, which: int, name: ServiceName) -> bool:
        """In the table, and not as we have put it."""
        present = self._tables[which].get(name)
        return present is not None and present != self._ours[which].get(name)

    def _put(self, which: int, wanted: Mapping[ServiceName, Any]) -> None:
        table, ours = self._tables[which], self._ours[which]
        with table.transaction():
            for name in [n for n in ours if n not in wanted]:
                if table.get(name) == ours.pop(name):
                    table.delete(name)
            for name, row in wanted.items():
                if not self._is_clusters(which, name):
                    table.upsert(row)
                    ours[name] = row

    def problems(self) -> Iterable[str]:
        """For the status."""
        if self.error:
            yield self.error
        for name in sorted(self.clashes):
            yield f"{self.path}: {'/'.join(name)} is in the cluster too, which counts"
