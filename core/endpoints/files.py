"""Endpoints on disk, so that a restarted agent knows what its predecessor had made.

One JSON file an endpoint, written beside and renamed, so a reader sees the old text or the new
one, whatever the moment of a kill. No fsync: the folder describes kernel objects of this boot
and lies on a tmpfs; a power cut takes both.
"""

from __future__ import annotations

import json
import logging
import os
import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.endpoint import Endpoint, EndpointState, NamedPort
from axoneme.core.model.labels import Label, LabelSet

log = logging.getLogger(__name__)

VERSION: Final = 1
_LINK: Final = re.compile(rb'"ifname": ?"(axo[0-9a-f]{10})"')
MAX_BYTES: Final = 1 << 20
LATEST: Final = "latest"
"""The file of the endpoint that was made last: it stays when that endpoint goes."""


@frozen
class SavedEndpoint:
    """What a state file holds."""

    endpoint: Endpoint
    addresses_given: bool = False
    """The runtime's own IPAM gave the addresses: they are not ours to take back."""


class EndpointFiles:
    """The folder ``<state-dir>/endpoints``. Blocking, about 0.1 ms a write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder and remove what a killed writer left half-written."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    def save(self, saved: SavedEndpoint) -> None:
        """Write or replace an endpoint's file."""
        path = self._path(saved.endpoint.id)
        new = not path.exists()
        text = json.dumps(encode(saved), separators=(",", ":"))
        self._write(path, saved.endpoint.id, text)
        if new:
            self._write(self.folder / LATEST, saved.endpoint.id, text)

    def _write(self, path: Path, number: int, text: str) -> None:
        hidden = path.with_name(f".{path.name}.{number}.tmp")
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        hidden.rename(path)

    def latest(self) -> SavedEndpoint | None:
        """The endpoint that was made last, as it was then; it may be gone."""
        try:
            return decode(json.loads((self.folder / LATEST).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def delete(self, number: int) -> None:
        """Remove an endpoint's file. Idempotent."""
        self._path(number).unlink(missing_ok=True)

    def load(self) -> list[SavedEndpoint]:
        """Every endpoint that can be read; a bad file is set aside and named in the log."""
        found = []
        for path in sorted(self.folder.glob("[0-9]*.json")):
            try:
                if path.stat().st_size > MAX_BYTES:
                    raise InvalidObjectError(str(path), "", "is too large")
                saved = decode(json.loads(path.read_text(encoding="utf-8")))
                if path.name != f"{saved.endpoint.id}.json":
                    raise InvalidObjectError(str(path), "id", f"holds id {saved.endpoint.id}")
                found.append(saved)
            except (OSError, ValueError, KeyError, TypeError, InvalidObjectError) as error:
                log.error("endpoint file refused", extra={"file": str(path), "error": str(error)})
                path.rename(path.with_suffix(".bad"))
        return found

    def refused(self) -> dict[Path, str]:
        """Files that were set aside, each with the link it is about; ``""`` if it does not say."""
        found = {}
        for path in sorted(self.folder.glob("*.bad")):
            try:
                with path.open("rb") as file:
                    match = _LINK.search(file.read(MAX_BYTES))
            except OSError:
                match = None
            found[path] = match[1].decode() if match else ""
        return found

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.json"


_TEXTS: Final = (
    "attachment_id",
    "namespace",
    "pod",
    "ifname",
    "container_ifname",
    "netns",
    "mac",
    "host_mac",
)
_NUMBERS: Final = ("id", "ifindex", "mtu", "identity", "policy_revision")


def encode(saved: SavedEndpoint) -> dict[str, Any]:
    """An endpoint as JSON."""
    endpoint = saved.endpoint
    return {
        "version": VERSION,
        **{name: getattr(endpoint, name) for name in (*_TEXTS, *_NUMBERS)},
        "ipv4": str(endpoint.ipv4) if endpoint.ipv4 else None,
        "ipv6": str(endpoint.ipv6) if endpoint.ipv6 else None,
        "labels": [[x.source, x.key, x.value] for x in endpoint.labels],
        "named_ports": [[p.name, p.port, p.protocol] for p in endpoint.named_ports],
        "addresses_given": saved.addresses_given,
        "uid": endpoint.uid,
    }


def decode(data: Any) -> SavedEndpoint:
    """Read what :func:`encode` made; any other shape raises ``ValueError`` or ``KeyError``.

    Another version's file will do if all fields are there: a field that changes its meaning has to
    change its name.
    """
    if not isinstance(data, dict):
        raise ValueError("not an endpoint")
    texts = {name: str(data[name]) for name in _TEXTS}
    numbers = {name: int(data[name]) for name in _NUMBERS}
    endpoint = Endpoint(
        **texts,  # type: ignore[arg-type]
        **numbers,  # type: ignore[arg-type]
        ipv4=IPv4Address(data["ipv4"]) if data["ipv4"] else None,
        ipv6=IPv6Address(data["ipv6"]) if data["ipv6"] else None,
        labels=LabelSet.of(Label(str(s), str(k), str(v)) for s, k, v in data["labels"]),
        named_ports=tuple(
            NamedPort(str(n), int(p), str(protocol)) for n, p, protocol in data["named_ports"]
        ),
        state=EndpointState.RESTORING,
        uid=str(data.get("uid") or ""),
    )
    return SavedEndpoint(endpoint, bool(data["addresses_given"]))
