"""One kind, followed once for the whole process: list in pages, watch, and what may go wrong.

    list ─► watch ──── cut, timeout ──► watch from the last version
      ▲       └─ 410, too old ─┐
      └────────────────────────┘

A second list is compared with what is known, so whoever listens hears of differences alone.
Bookmarks move the version on while nothing changes, so a watch can nearly always be taken up again.

What is kept of an object is its slim text (:mod:`axoneme.core.k8s.slim`), a few hundred bytes: it
is read again for whoever begins to listen later. With a journal it is on disk as well
(:mod:`axoneme.core.k8s.saved`): a server that is not heard when this process starts is stood in for
by what its predecessor knew, until the first list, which is compared with that as any other.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator
from sys import intern
from typing import Any, Final

from axoneme.core.errors import AxonemeError, InvalidObjectError, NotFoundError
from axoneme.core.k8s import paths
from axoneme.core.k8s.client import ApiClient, GoneError, pause
from axoneme.core.k8s.saved import DamagedError, Journal, gone
from axoneme.core.k8s.slim import Decoder, decode, encode
from axoneme.core.model.objects import EMPTY, ClusterObject, ObjectKey
from axoneme.core.store.kinds import Kind
from axoneme.core.store.model import StoreEvent

log = logging.getLogger(__name__)

PAGE: Final = "500"
WATCH_SECONDS: Final = (300, 600)
"""A watch ends by itself after a while, each at another time."""
SILENCE: Final = 150.0
"""Seconds without even a bookmark, which comes each minute: the connection is dead."""
MOST_LINE: Final = 8 << 20
GROUP: Final = "cilium.io"
"""Ours: the operator brings its definitions."""
SOON: Final = 3
"""Failures that count while a definition is waited for: it comes within seconds."""
SHORT: Final = 1.0
"""Seconds; a watch that ends sooner is none."""
PATIENCE: Final = 3.0
"""Seconds of silence after which what was saved stands in for the server."""
BATCH: Final = 500
"""Saved objects that are told in one go."""


class Feed:
    """Objects of a kind as they are now, and queues of those who want to hear of changes."""

    def __init__(
        self,
        client: ApiClient,
        kind: Kind,
        namespace: str = "",
        selector: str = "",
        journal: Journal | None = None,
    ) -> None:
        """``namespace``, and ``selector`` of fields: what they leave out is never sent."""
        self.kind = kind
        self.selector = selector
        self.synced = False
        self.lists = 0
        """How often everything was listed; more than once is worth a look."""
        self.problem = ""
        self.recalled = False
        """What is known is what a predecessor saved."""
        self.missing = ""
        """Why nothing could be recalled although it should have been."""
        self.journal = journal
        self._notes: list[bytes] = []
        """For the journal."""
        self._client = client
        self._path = paths.collection(kind, namespace)
        self._decoder = Decoder(kind.kind)
        self._kept: dict[ObjectKey, bytes] = {}
        """Slim text, in which the version stands too."""
        self._queues: set[asyncio.Queue[StoreEvent]] = set()
        self._version = ""
        self._failures = 0
        """Since the server was last heard."""

    def subscribe(self) -> tuple[asyncio.Queue[StoreEvent], Iterator[StoreEvent]]:
        """A queue of what comes, and what there is already, as of now, read one by one."""
        queue: asyncio.Queue[StoreEvent] = asyncio.Queue()
        self._queues.add(queue)
        return queue, self._there(list(self._kept.values()), self.synced)

    def _there(self, kept: list[bytes], synced: bool) -> Iterator[StoreEvent]:
        for text in kept:
            obj = read(self.kind, decode(text))
            yield StoreEvent("added", obj.key, obj)
        if synced:
            yield StoreEvent("synced")

    def unsubscribe(self, queue: asyncio.Queue[StoreEvent]) -> None:
        """No more of it."""
        self._queues.discard(queue)

    async def run(self) -> None:
        """Follow for ever, whatever the server sends: nobody else would notice that this ended."""
        standing_in = None if self.journal is None else asyncio.create_task(self._stand_in())
        try:
            await self._follow()
        finally:
            if standing_in is not None:
                standing_in.cancel()
            if self.journal is not None:
                self.journal.close()

    async def _follow(self) -> None:
        while True:
            began = time.monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                if time.monotonic() - began >= SHORT:
                    continue
                self._failures += 1  # it ends at once, again and again: no reason to hurry
            except GoneError:
                log.info("watch is too old, listing again", extra={"kind": self.kind.kind})
                self._version = ""
                self._failures += 1  # a pause: all nodes of the cluster will list now
            except NotFoundError:  # a kind that the cluster has not got, or not yet
                self._not_served()
            except Exception as error:
                self._failed(error)
            await asyncio.sleep(pause(min(self._failures, 5)))

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, AxonemeError):  # a body that is no JSON, say
            log.exception("watch failed", extra={"kind": self.kind.kind})
        elif not self.problem:
            extra = {"kind": self.kind.kind, "error": str(error)}
            log.warning("watch interrupted", extra=extra)
        self.problem = str(error) or type(error).__name__
        self._failures += 1

    def _not_served(self) -> None:
        """A kind of ours will come: until then nobody knows what there is, and a node without its
        policies must not begin. One of another project may never come: there is none of it. What
        is known stays: who removes a definition removes its objects first.
        """
        self.problem = f"the API server has no {self.kind.plural}.{self.kind.group or 'core'}"
        self._failures = min(self._failures + 1, SOON)
        if self.kind.group != GROUP:
            self._mark()

    def _query(self, **more: str) -> dict[str, str]:
        return more | ({"fieldSelector": self.selector} if self.selector else {})

    async def _list(self) -> None:
        seen: set[ObjectKey] = set()
        path, token = self._path, ""
        self.lists += 1
        while True:
            query = self._query(limit=PAGE) | ({"continue": token} if token else {})
            text = await self._client.ask("GET", path, self.kind.plural, query=query)
            items, token, version = self._decoder.page(text)
            for body in items:
                seen.add(self._take(body))
            if not token:
                break
            self._save()
        for key in [k for k in self._kept if k not in seen]:
            self._drop(key)
        self._version = version
        self.problem, self.recalled = "", False
        self._mark()
        self._save()

    async def _watch(self) -> None:
        query = self._query(
            watch="1",
            resourceVersion=self._version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(random.randint(*WATCH_SECONDS)),
        )
        path = self._path
        rest = b""
        async with self._client.stream(path, query, SILENCE) as body:
            self.problem = ""
            async for chunk in body.iter_any():
                self._client.reach.heard()
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MOST_LINE:
                    raise InvalidObjectError(path, "", f"a line of over {MOST_LINE} bytes")
                try:
                    for line in lines:
                        if line:
                            self._event(*self._decoder.event(line))
                finally:
                    self._save()  # before anybody acts on it
                self._failures = 0

    def _event(self, kind: str, body: dict[str, Any]) -> None:
        if kind == "ERROR":
            message = str(body.get("message") or "the watch ended")
            if body.get("code") == 410:
                raise GoneError(message)
            raise InvalidObjectError(self._path, "", message)
        self._version = str((body.get("metadata") or {}).get("resourceVersion") or self._version)
        if kind in ("ADDED", "MODIFIED"):
            self._take(body)
        elif kind == "DELETED":
            self._drop(key_of(self.kind.kind, body))

    def _take(self, body: dict[str, Any]) -> ObjectKey:
        text = encode(body)
        obj = read(self.kind, body)
        old = self._kept.get(obj.key)
        if old != text:
            self._kept[obj.key] = text
            self._notes.append(text)
            self._tell(StoreEvent("added" if old is None else "modified", obj.key, obj))
        return obj.key

    def _drop(self, key: ObjectKey) -> None:
        if self._kept.pop(key, None) is not None:
            self._notes.append(gone(key.namespace, key.name))
            self._tell(StoreEvent("deleted", key))

    def _mark(self) -> None:
        if not self.synced:
            self.synced = True
            if self.journal is not None:
                self.journal.begin(self._texts(), fresh=not self.recalled)
                self._notes.clear()
            self._tell(StoreEvent("synced"))

    # On disk

    def _texts(self) -> list[bytes]:
        return list(self._kept.values())

    def _save(self) -> None:
        """What has changed; nothing before all is known."""
        if self.journal is not None and self.synced and self._notes:
            self.journal.note(self._notes, self._texts)
        self._notes.clear()

    async def _stand_in(self) -> None:
        """Once the server has been silent for too long tell what a predecessor knew."""
        began, reach = time.monotonic(), self._client.reach
        while (silent := reach.silence(began)) < PATIENCE:
            await asyncio.sleep(PATIENCE - silent)
            if self.synced:
                return
        if not reach.problem:
            server = self._client.access.server
            reach.lost(f"{server} cannot be reached: no good answer", ago=PATIENCE)
        assert self.journal is not None
        try:
            found = await asyncio.to_thread(self.journal.load)
        except DamagedError as error:
            log.warning("saved objects ignored", extra={"error": str(error)})
            self.missing = f"{self.kind.plural} saved are ignored: {error}"
            return
        if found is None:
            self.missing = f"no {self.kind.plural} were saved"
            return
        for count, ((namespace, name), text) in enumerate(found.items()):
            if count % BATCH == 0:
                await asyncio.sleep(0)
            if self.synced:
                return  # by the server, after all
            key = ObjectKey(self.kind.kind, intern(namespace), name)
            if key not in self._kept:
                self._kept[key] = text
                self._tell(StoreEvent("added", key, read(self.kind, decode(text))))
        if not self.synced:
            self.recalled = True
            extra = {"kind": self.kind.kind, "objects": len(self._kept)}
            log.info("saved objects stand in for the API server", extra=extra)
            self._mark()

    def _tell(self, event: StoreEvent) -> None:
        for queue in self._queues:
            queue.put_nowait(event)


def key_of(kind: str, body: dict[str, Any]) -> ObjectKey:
    """Of an object that the server has sent."""
    meta = body.get("metadata") or {}
    return ObjectKey(kind, intern(meta.get("namespace") or ""), meta.get("name") or "")


def read(kind: Kind, body: dict[str, Any]) -> ClusterObject:
    """An object that the server has sent; in lists it has no head. The server has checked it."""
    body.setdefault("apiVersion", kind.api_version)
    body.setdefault("kind", kind.kind)
    meta = body["metadata"]
    return ClusterObject(
        key_of(kind.kind, body),
        body["apiVersion"],
        meta.get("uid") or "",
        meta.get("resourceVersion") or "",
        meta.get("labels") or EMPTY,
        meta.get("annotations") or EMPTY,
        body,
    )
