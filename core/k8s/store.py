""":class:`axoneme.core.store.model.Store` over a Kubernetes API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from axoneme.core.errors import AxonemeError, NotFoundError
from axoneme.core.k8s import paths
from axoneme.core.k8s.access import Access
from axoneme.core.k8s.client import APPLY, JSON_PATCH, MERGE_PATCH, ApiClient, pause
from axoneme.core.k8s.feed import PAGE, Feed, read
from axoneme.core.k8s.leases import Leases
from axoneme.core.k8s.limits import TokenBucket
from axoneme.core.k8s.reach import Reach
from axoneme.core.k8s.saved import Saved
from axoneme.core.model.objects import EMPTY, ClusterObject, ObjectKey
from axoneme.core.store import manifest
from axoneme.core.store.fields import selector
from axoneme.core.store.kinds import Kind, KindRegistry
from axoneme.core.store.model import StoreEvent

SECRET: Final = "Secret"  # noqa: S105 - a kind, which is never saved
TIDY_SECONDS: Final = 60.0
MANAGER: Final = "axoneme"
"""Whose the fields are that we apply (server-side apply)."""


class KubernetesStore:
    """Verbs are requests; each kind is watched once, however many listen."""

    def __init__(
        self,
        access: Access,
        kinds: KindRegistry | None = None,
        *,
        qps: float = 0.0,
        burst: int = 1,
        manager: str = MANAGER,
        saved: Path | None = None,
    ) -> None:
        """``saved``: a folder for what is watched: a successor may start without a server."""
        self.kinds = kinds or KindRegistry()
        self.client = ApiClient(access, TokenBucket(qps, burst), Reach(saved))
        self._saved = Saved(saved) if saved is not None else None
        self.feeds: dict[str, Feed] = {}
        self.manager = manager
        self.version = ""
        """Of the server, in Cilium's words; empty until it has been reached."""
        self._leases = Leases(self.client)
        self._plain: set[str] = set()
        """Kinds whose status has no address of its own."""
        self._tasks: list[asyncio.Task[None]] = []

    # Reading

    async def list(self, kind: str, namespace: str = "") -> list[ClusterObject]:
        """Every object of a kind, or of one namespace, in pages."""
        return [obj async for obj in self.each(kind, namespace)]

    async def each(self, kind: str, namespace: str = "") -> AsyncIterator[ClusterObject]:
        """The same one by one; a page of them is held at a time."""
        known, token = paths.known(self.kinds, kind), ""
        path = paths.collection(known, namespace)
        while True:
            query = {"limit": PAGE} | ({"continue": token} if token else {})
            page = await self.client.call("GET", path, known.plural, query=query)
            for body in page.get("items") or ():
                yield read(known, body)
            token = str((page.get("metadata") or {}).get("continue") or "")
            if not token:
                return

    async def get(self, key: ObjectKey) -> ClusterObject:
        """One object."""
        kind = paths.known(self.kinds, key.kind)
        return self._as_is(kind, await self.client.call("GET", paths.single(kind, key), str(key)))

    async def watch(
        self,
        kind: str,
        name: str = "",
        namespace: str = "",
        fields: Mapping[str, str] = EMPTY,
    ) -> AsyncIterator[StoreEvent]:
        """What there is, ``synced``, then changes.

        The server sends no more than what is asked for; whoever asks for the same shares a feed.
        """
        if name and (namespace or fields or kind not in self.feeds):  # else all come anyway
            fields = {**fields, "metadata.name": name}
        feed = self._feed(kind, namespace, selector(fields))
        queue, there = feed.subscribe()
        try:
            for event in there:
                if not name or event.key is None or event.key.name == name:
                    yield event
            while True:
                event = await queue.get()
                if not name or event.key is None or event.key.name == name:
                    yield event
        finally:
            feed.unsubscribe(queue)

    def _feed(self, kind: str, namespace: str, chosen: str) -> Feed:
        scope = " ".join(word for word in (kind, namespace, chosen) if word)
        feed = self.feeds.get(scope)
        if feed is None:
            if not self.feeds:
                self._tasks.append(asyncio.create_task(self._learn_version(), name="version"))
                if self._saved is not None:
                    self._tasks.append(asyncio.create_task(self._tidy(self._saved), name="tidy"))
            known = paths.known(self.kinds, kind)
            journal = None
            if self._saved is not None and kind != SECRET:
                journal = self._saved.journal(scope, kind)
            feed = self.feeds[scope] = Feed(self.client, known, namespace, chosen, journal)
            self._tasks.append(asyncio.create_task(feed.run(), name=f"watch {scope}"))
        return feed

    # Writing

    async def create(self, body: Mapping[str, Any]) -> ClusterObject:
        """Create, exclusively; a status is written behind it."""
        kind, key = self._of(body)
        path = paths.collection(kind, key.namespace)
        made = await self.client.call("POST", path, str(key), body=_bare(body))
        obj = self._as_is(kind, made)
        if body.get("status") and obj.status != body["status"]:
            with contextlib.suppress(NotFoundError):  # a kind whose status is no part of its own
                return await self.update_status(key, body["status"])
        return obj

    async def update(self, body: Mapping[str, Any]) -> ClusterObject:
        """Replace all but the status, with conflict detection."""
        kind, key = self._of(body)
        meta = dict(body["metadata"])
        if not meta.get("resourceVersion"):
            meta["resourceVersion"] = (await self.get(key)).resource_version
        whole = {**body, "metadata": meta}
        path = paths.single(kind, key)
        return self._as_is(kind, await self.client.call("PUT", path, str(key), body=whole))

    async def apply(self, body: Mapping[str, Any]) -> ClusterObject:
        """Server-side apply: fields of ours that are left out go, those of others stay."""
        kind, key = self._of(body)
        query = {"fieldManager": self.manager, "force": "true"}
        meta = {k: v for k, v in body["metadata"].items() if k not in _SERVERS}
        wanted = {**body, "metadata": {**meta, **_place(key)}}
        wanted.pop("status", None)
        answer = await self.client.call(
            "PATCH", paths.single(kind, key), str(key), query=query, body=wanted, content=APPLY
        )
        obj = self._as_is(kind, answer)
        if body.get("status") and not obj.status:  # made just now
            return await self.update_status(key, body["status"])
        return obj

    async def update_status(
        self, key: ObjectKey, status: Mapping[str, Any], version: str = ""
    ) -> ClusterObject:
        """Replace the status alone."""
        kind = paths.known(self.kinds, key.kind)
        steps: list[dict[str, Any]] = [{"op": "add", "path": "/status", "value": dict(status)}]
        if version:  # a version that is not the present one is a conflict
            lock = {"op": "replace", "path": "/metadata/resourceVersion", "value": version}
            steps.insert(0, lock)
        return self._as_is(kind, await self._patch_status(kind, key, steps, JSON_PATCH))

    async def patch(
        self, key: ObjectKey, changes: Mapping[str, Any], version: str = ""
    ) -> ClusterObject:
        """Change some fields by a merge patch; those of the status on the sub-resource."""
        manifest.check_patch(key, changes)
        kind = paths.known(self.kinds, key.kind)
        body = dict(changes)
        if version:  # the server compares it with the present one
            body["metadata"] = {**(body.get("metadata") or {}), "resourceVersion": version}
        if "status" in changes:
            return self._as_is(kind, await self._patch_status(kind, key, body, MERGE_PATCH))
        return self._as_is(kind, await self._patch(paths.single(kind, key), key, body, MERGE_PATCH))

    async def _patch_status(
        self, kind: Kind, key: ObjectKey, body: Any, content: str
    ) -> dict[str, Any]:
        if key.kind not in self._plain:
            path = paths.single(kind, key, "status")
            with contextlib.suppress(NotFoundError):
                return await self._patch(path, key, body, content)
        # no such object, or a kind whose status is no part of its own (CiliumEndpoint)
        answer = await self._patch(paths.single(kind, key), key, body, content)
        self._plain.add(key.kind)
        return answer

    async def _patch(self, path: str, key: ObjectKey, body: Any, content: str) -> dict[str, Any]:
        return await self.client.call("PATCH", path, str(key), body=body, content=content)

    async def delete(self, key: ObjectKey, version: str = "", *, graceful: bool = False) -> None:
        """Delete, with conflict detection when a version is given."""
        kind = paths.known(self.kinds, key.kind)
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if version:
            options["preconditions"] = {"resourceVersion": version}
        if key.kind == "Pod" and not graceful:
            options["gracePeriodSeconds"] = 0
        await self.client.call("DELETE", paths.single(kind, key), str(key), body=options)

    async def acquire_lease(self, name: str, holder: str, duration: float) -> bool:
        """Take or renew a lease."""
        return await self._leases.acquire(name, holder, duration)

    async def prepare(self) -> None:
        """Install the definitions of our kinds."""
        from axoneme.core.k8s.definitions.install import install  # noqa: PLC0415 # operators only

        await install(self)

    async def close(self) -> None:
        """Stop watching, let go of connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._saved is not None:
            await asyncio.to_thread(self._saved.close)
        await self.client.close()

    # What status and metrics say

    def about(self) -> str:
        """Version and server."""
        return f"kubernetes {self.version or 'of unknown version'} at {self.client.access.server}"

    def calls(self) -> Mapping[tuple[str, str, str], int]:
        """By server, verb and answer."""
        return +self.client.counts

    async def _learn_version(self) -> None:
        while not self.version:
            with contextlib.suppress(AxonemeError):
                found = await self.client.call("GET", "/version", "the API server's version")
                git, platform = found.get("gitVersion", "?"), found.get("platform", "?")
                self.version = f"{found.get('major')}.{found.get('minor')} ({git}) [{platform}]"
            await asyncio.sleep(pause(5))

    async def _tidy(self, saved: Saved) -> None:
        """Remove what was saved of feeds that there are no more, once all have heard the server."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            if all(f.synced and not f.recalled for f in self.feeds.values()):
                await asyncio.to_thread(saved.keep_only, tuple(self.feeds))
                return

    def away(self) -> str:
        """Why and since when no server answers; empty while one does."""
        return self.client.reach.away()

    def recalled(self) -> tuple[str, ...]:
        """Kinds of which only what was saved is known."""
        return tuple(dict.fromkeys(f.kind.kind for f in self.feeds.values() if f.recalled))

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the connection and with watches; empty if nothing is."""
        reach, feeds = self.client.reach, self.feeds.values()
        found = [reach.text()]
        if recalled := self.recalled():
            found.append(f"working from what was saved of {len(recalled)} kinds until it is back")
        found += [f.missing for f in feeds if not f.synced]
        found += [f.problem for f in feeds if f.problem != reach.problem]
        found += [f.journal.problem for f in feeds if f.journal is not None]
        return tuple(dict.fromkeys(p for p in found if p))

    def _of(self, body: Mapping[str, Any]) -> tuple[Kind, ObjectKey]:
        key = manifest.key_of(body, self.kinds)
        return paths.known(self.kinds, key.kind), key

    @staticmethod
    def _as_is(kind: Kind, body: dict[str, Any]) -> ClusterObject:
        """One object whole: whoever reads it to write it back must lose nothing."""
        return read(kind, body)


_SERVERS: Final = frozenset({"uid", "resourceVersion", "creationTimestamp", "generation",
                             "managedFields", "selfLink"})  # fmt: skip


def _place(key: ObjectKey) -> dict[str, str]:
    return {"name": key.name} | ({"namespace": key.namespace} if key.namespace else {})


def _bare(body: Mapping[str, Any]) -> dict[str, Any]:
    """To create: without what is the server's to say."""
    meta = {k: v for k, v in body["metadata"].items() if k not in _SERVERS}
    return {**body, "metadata": meta}
