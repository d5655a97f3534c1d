"""The store's interface: where cluster objects live, whichever engine is behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from attrs import frozen

from axoneme.core.model.objects import EMPTY, ClusterObject, ObjectKey
from axoneme.core.store.kinds import KindRegistry


@frozen
class StoreEvent:
    """One step of a watch.

    ``type`` is ``added``, ``modified``, ``deleted``, ``invalid`` (the object's present text is
    bad; ``message`` says why and the last good version stays in force) or ``synced`` (all that
    was there at the start has been delivered).
    """

    type: str
    key: ObjectKey | None = None
    obj: ClusterObject | None = None
    message: str = ""


class Store(Protocol):
    """Cluster objects by kind, namespace and name. Verbs are atomic per object."""

    kinds: KindRegistry

    async def list(self, kind: str) -> list[ClusterObject]:
        """Every good object of a kind."""
        ...

    def each(self, kind: str) -> AsyncIterator[ClusterObject]:
        """The same one by one, for kinds of which there are too many to hold."""
        ...

    async def get(self, key: ObjectKey) -> ClusterObject:
        """One object; ``NotFoundError``."""
        ...

    async def create(self, body: Mapping[str, Any]) -> ClusterObject:
        """Create; ``ConflictError`` when the name is taken, also by another process just now."""
        ...

    async def update(self, body: Mapping[str, Any]) -> ClusterObject:
        """Replace; ``ConflictError`` when ``metadata.resourceVersion`` is given and stale."""
        ...

    async def apply(self, body: Mapping[str, Any]) -> ClusterObject:
        """Create, or replace all but the status."""
        ...

    async def update_status(
        self, key: ObjectKey, status: Mapping[str, Any], version: str = ""
    ) -> ClusterObject:
        """Replace the status alone; ``ConflictError`` if ``version`` is given and stale."""
        ...

    async def patch(
        self, key: ObjectKey, changes: Mapping[str, Any], version: str = ""
    ) -> ClusterObject:
        """Change some fields (JSON merge patch, RFC 7396): ``None`` removes one, a list is whole.

        Changes of ``status`` need a patch of their own. ``NotFoundError``, or ``ConflictError`` if
        ``version`` is given and stale.
        """
        ...

    async def delete(self, key: ObjectKey, version: str = "", *, graceful: bool = False) -> None:
        """Delete; ``NotFoundError``, or ``ConflictError`` if ``version`` is given and stale.

        A pod goes at once unless it is to be ``graceful``: then its node lets it end in time.
        """
        ...

    def watch(
        self,
        kind: str,
        name: str = "",
        namespace: str = "",
        fields: Mapping[str, str] = EMPTY,
    ) -> AsyncIterator[StoreEvent]:
        """What there is as ``added``, then ``synced``, then changes, for ever.

        With ``name`` of objects of that name alone, in all namespaces. With ``namespace`` of those
        there alone: then no more than these are asked for, and the right to read them will do. With
        ``fields`` of those that have these values; paths are dotted and such that an API server
        selects by (``spec.nodeName`` of pods).
        """
        ...

    async def acquire_lease(self, name: str, holder: str, duration: float) -> bool:
        """Take or renew a lease for ``duration`` seconds; ``False`` when another holds it."""
        ...

    def about(self) -> str:
        """What and where it is, for people."""
        ...

    def away(self) -> str:
        """Why and since when it cannot be asked, for people; empty while it can."""
        ...

    def recalled(self) -> tuple[str, ...]:
        """Kinds of which only what was saved before the start is known."""
        ...

    def problems(self) -> tuple[str, ...]:
        """What keeps it from being up to date; empty if nothing does."""
        ...

    def calls(self) -> Mapping[tuple[str, str, str], int]:
        """Requests over a network so far, by server, verb and answer; empty without any."""
        ...

    async def prepare(self) -> None:
        """Make the place ready for our kinds; the leading operator asks for it, again and again."""
        ...

    async def close(self) -> None:
        """Let go of files, sockets and watches."""
        ...
