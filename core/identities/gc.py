"""The operator's garbage collection of identities.

Two passes, at least ``identity-heartbeat-timeout`` apart: an identity that no CiliumEndpoint
uses is marked with the time; one whose mark is that old and that is still unused is deleted. An
agent that takes up a marked identity removes the mark, which changes the object's version; the
deletion names the version read, so a re-use in between wins.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from attrs import define

from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError
from axoneme.core.identities.objects import KIND, UNUSED_ANNOTATION
from axoneme.core.model.objects import ClusterObject
from axoneme.core.store.model import Store

log = logging.getLogger(__name__)


@define
class GcResult:
    """What one pass did."""

    alive: int = 0
    marked: int = 0
    deleted: int = 0


async def collect_identities(
    store: Store, used: Collection[int], timeout: float, now: datetime | None = None
) -> GcResult:
    """One pass. ``timeout`` in seconds between the mark and the deletion."""
    moment = now or datetime.now(UTC)
    result = GcResult()
    for obj in await store.list(KIND):
        try:
            await _visit(store, obj, used, timeout=timeout, now=moment, result=result)
        except (ConflictError, NotFoundError):
            continue  # somebody was faster: the next pass looks again
        except AxonemeError as error:
            log.warning(
                "identity not collected", extra={"object": str(obj.key), "error": str(error)}
            )
    return result


async def _visit(
    store: Store,
    obj: ClusterObject,
    used: Collection[int],
    *,
    timeout: float,
    now: datetime,
    result: GcResult,
) -> None:
    mark = obj.annotations.get(UNUSED_ANNOTATION)
    if obj.key.name.isdigit() and int(obj.key.name) in used:
        result.alive += 1
        if mark is not None:
            await store.update(_marked(obj, None))
        return
    since = _parse(mark)
    if since is None:
        await store.update(_marked(obj, now))
        result.marked += 1
        return
    if (now - since).total_seconds() < timeout:
        return
    # Of the version read: fails if an agent has taken the identity up since.
    await store.delete(obj.key, obj.resource_version)
    result.deleted += 1
    log.info("identity deleted", extra={"identity": obj.key.name, "unused_since": mark})


def _parse(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _marked(obj: ClusterObject, since: datetime | None) -> dict[str, Any]:
    body = dict(obj.body)
    metadata = dict(body.get("metadata") or {})
    notes = dict(metadata.get("annotations") or {})
    notes.pop(UNUSED_ANNOTATION, None)
    if since is not None:
        notes[UNUSED_ANNOTATION] = since.isoformat()
    metadata["annotations"] = notes
    metadata["resourceVersion"] = obj.resource_version
    body["metadata"] = metadata
    return body
