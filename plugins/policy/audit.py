"""Audit mode: which endpoints' refusals are only told.

Switched for the whole node (``policy-audit-mode``, or the live option) or for one endpoint. The
packet path looks where a packet was refused, and nowhere else. An endpoint's switch is kept in a
file, so that it survives the agent, and ends with the endpoint.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from axoneme.core.datapath.typed import TypedMap
from axoneme.core.live_options import DISABLED, ENABLED, HOST, NODE, SWITCH, LiveOption
from axoneme.core.model.endpoint import Endpoint
from axoneme.core.reconcile.maps import MapTarget
from axoneme.core.state import Changes, Table, TableRegistry
from axoneme.plugins.policy.config import AUDIT

log = logging.getLogger(__name__)

MAP: Final = "axo_policy_audit"
NAME: Final = "PolicyAuditMode"


@frozen
class Audited:
    """Row of table ``policy_audit``. Key: ``endpoint``; 0 is everything on the node, 0xffffffff
    what the node itself sends and gets."""

    endpoint: int


@frozen
class AuditKey:
    """``struct axo_policy_audit_key``."""

    endpoint: int


@frozen
class AuditValue:
    """``struct axo_policy_audit``."""

    on: int


def audit_table(tables: TableRegistry) -> Table[int, Audited]:
    """Make table ``policy_audit``."""
    return tables.create("policy_audit", Audited, key=lambda r: r.endpoint)


class AuditMode:
    """Who is audited; ``default`` is what the configuration says of the node."""

    def __init__(
        self,
        table: Table[int, Audited],
        endpoints: Table[int, Endpoint],
        path: Path,
        *,
        default: bool,
    ) -> None:
        self._table = table
        self._endpoints = endpoints
        self._path = path
        self._attachments = self._load()
        for endpoint in self._attachments:
            table.upsert(Audited(endpoint))
        if default:
            table.upsert(Audited(NODE))
        endpoints.subscribe(self._endpoints_changed)

    def audits(self, endpoint: int) -> bool:
        """Whether what policy refuses to an endpoint (0: the node) passes."""
        return NODE in self._table or endpoint in self._table

    def __len__(self) -> int:
        return len(self._attachments)

    def option(self, applied: Callable[[], Awaitable[object]] | None = None) -> LiveOption:
        """The live option; of an endpoint it says what was set for that endpoint alone."""
        text = "What policy refuses is told, with verdict AUDIT, and passes"
        return LiveOption(
            NAME,
            text,
            SWITCH,
            self._get,
            self._set,
            per_endpoint=True,
            applied=applied,
            key=AUDIT,
        )

    def prune(self) -> None:
        """Forget endpoints that are not there any more, once all there are have been restored."""
        gone = [n for n, a in self._attachments.items() if not self._is(n, a)]
        for endpoint in gone:
            self._forget(endpoint)
        if gone:
            self._save()

    def _is(self, endpoint: int, attachment: str) -> bool:
        row = self._endpoints.get(endpoint)
        return endpoint == HOST or (row is not None and row.attachment_id == attachment)

    def _get(self, endpoint: int) -> str:
        return ENABLED if endpoint in self._table else DISABLED

    def _set(self, endpoint: int, value: str) -> None:
        if value == ENABLED:
            self._table.upsert(Audited(endpoint))
        else:
            self._table.delete(endpoint)
        if endpoint == NODE:
            return
        row = self._endpoints.get(endpoint)
        if value == ENABLED:
            self._attachments[endpoint] = row.attachment_id if row is not None else ""
        else:
            self._attachments.pop(endpoint, None)
        self._save()

    def _endpoints_changed(self, changes: Changes[int, Endpoint]) -> None:
        gone = self._attachments.keys() & changes.deleted.keys()
        for endpoint in gone:
            self._forget(endpoint)
        if gone:
            self._save()

    def _forget(self, endpoint: int) -> None:
        del self._attachments[endpoint]
        self._table.delete(endpoint)

    def _load(self) -> dict[int, str]:
        try:
            found = json.loads(self._path.read_text())
            return {int(number): str(attachment) for number, attachment in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            log.error(
                "audited endpoints cannot be read: none is audited", extra={"error": str(error)}
            )
            return {}

    def _save(self) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({str(k): v for k, v in self._attachments.items()}))
            temporary.replace(self._path)
        except OSError as error:
            log.warning("audited endpoints not saved", extra={"error": str(error)})


class AuditTarget:
    """:class:`axoneme.core.reconcile.Target`; the map is opened when it is first needed."""

    name = MAP

    def __init__(self, typed: Callable[[], TypedMap[Any, Any]], bump: Callable[[], object]) -> None:
        self._typed, self._bump = typed, bump
        self._lazy: MapTarget[int, Audited] | None = None

    def apply(
        self, upserts: Mapping[int, Audited], deletes: Mapping[int, Audited]
    ) -> Mapping[int, Exception]:
        """Switch; flows that were let through meanwhile are asked for again."""
        return self._target.apply(upserts, deletes)

    def resync(self, desired: Mapping[int, Audited]) -> Mapping[int, Exception]:
        """Compare with the kernel, repair, sweep."""
        return self._target.resync(desired)

    @property
    def _target(self) -> MapTarget[int, Audited]:
        if self._lazy is None:
            self._lazy = MapTarget(MAP, self._typed(), encode, after=self._bump)
        return self._lazy


def encode(row: Audited) -> tuple[AuditKey, AuditValue]:
    """The entry of an endpoint."""
    return AuditKey(row.endpoint), AuditValue(1)
