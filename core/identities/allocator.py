"""Identities of label sets: numbers that every node of the cluster agrees on.

The store is the arbiter: the name of a CiliumIdentity is its number and creation is exclusive.
A label set's first candidate is a hash of it and collisions probe onwards, so two nodes that
race for the same labels try the same number and the loser adopts what the winner made. Should
two numbers come to stand for one label set all the same, both are valid and the lower one is
used for new endpoints.

An identity that is in use here and vanishes from the store (an operator that did not see us) is
created again under the same number; one that the operator marked as unused is unmarked. A number
that has gone to other labels meanwhile is lost: its users are told and ask for another one.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from axoneme.core.errors import (
    AxonemeError,
    ConflictError,
    ExhaustedError,
    InvalidObjectError,
    NotFoundError,
    RetryableError,
)
from axoneme.core.identities.local import LocalIdentities
from axoneme.core.identities.objects import (
    KIND,
    UNUSED_ANNOTATION,
    decode_identity,
    encode_identity,
)
from axoneme.core.identities.reserved import reserved_by_labels, reserved_identities
from axoneme.core.locks import KeyedLocks
from axoneme.core.model.identity import MAX_CLUSTER, MIN_CLUSTER, Identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import Changes, Table, TableRegistry
from axoneme.core.store.model import Store

log = logging.getLogger(__name__)

SPAN: Final = MAX_CLUSTER - MIN_CLUSTER + 1
MAX_CONFLICTS: Final = 64
"""Collisions that the table did not foretell, in one allocation, before giving up for now."""


def identity_table(tables: TableRegistry) -> Table[int, Identity]:
    """Make table ``identities``; index ``labels`` is by key string. Reserved rows are in it."""
    table: Table[int, Identity] = tables.create(
        "identities",
        Identity,
        key=lambda r: r.id,
        indexes={"labels": lambda r: [r.labels.key_string()]},
    )
    for row in reserved_identities():
        table.upsert(row)
    return table


def candidates(labels: LabelSet, cluster_id: int = 0) -> Iterator[int]:
    """The numbers to try for a label set, in the same order on every node."""
    start = zlib.crc32(labels.key_string().encode())
    for step in range(SPAN):
        yield (cluster_id << 16) | (MIN_CLUSTER + (start + step) % SPAN)


class IdentityAllocator:
    """Gives numbers to label sets and to prefixes, counts who uses them."""

    def __init__(
        self,
        store: Store,
        table: Table[int, Identity],
        *,
        cluster_id: int = 0,
    ) -> None:
        self.table = table
        self.local = LocalIdentities(table)
        self._store = store
        self._cluster_id = cluster_id
        self._users: Counter[int] = Counter()
        self._mine: dict[int, LabelSet] = {}
        self._marked: set[int] = set()
        self._locks = KeyedLocks()
        self._lost: list[Callable[[int], None]] = []
        self._repairs: set[asyncio.Task[None]] = set()
        table.subscribe(self._watch)

    # What endpoints ask

    async def allocate(self, labels: LabelSet) -> int:
        """The number of ``labels``, made if nobody has one; counts one user.

        Raises ``ExhaustedError`` when the cluster has no number left and ``StoreError`` when
        the store cannot be asked; both may be tried again.
        """
        reserved = reserved_by_labels(labels)
        if reserved is not None:
            return reserved
        async with self._locks.hold(labels):
            number = await self._find_or_create(labels)
            self._users[number] += 1
            self._mine[number] = labels
            return number

    def release(self, number: int) -> None:
        """One user less. The object stays: the operator removes what no node uses."""
        if number not in self._mine:
            return
        self._users[number] -= 1
        if self._users[number] <= 0:
            del self._users[number]
            del self._mine[number]

    def lookup(self, labels: LabelSet) -> int | None:
        """The number of ``labels`` if there is one; counts nothing."""
        reserved = reserved_by_labels(labels)
        return reserved if reserved is not None else self._known(labels)

    def labels_of(self, number: int) -> LabelSet | None:
        """The labels behind a number."""
        row = self.table.get(number)
        return row.labels if row else None

    def stands_for(self, number: int, labels: LabelSet) -> bool:
        """Whether nothing speaks against it that ``number`` is the number of ``labels``."""
        row = self.table.get(number)
        return row is None or row.source != "store" or row.labels == labels

    def on_lost(self, listener: Callable[[int], None]) -> None:
        """Call ``listener`` with a number in use that has gone to other labels, perhaps twice."""
        self._lost.append(listener)

    @property
    def in_use(self) -> set[int]:
        """Cluster-wide identities that endpoints of this node use."""
        return set(self._mine)

    # What policies ask

    def allocate_local(self, labels: LabelSet) -> int:
        """This node's number of what is outside the cluster; counts one user."""
        return self.local.allocate(labels)

    def release_local(self, number: int) -> bool:
        """One user less; true when the number is free now."""
        return self.local.release(number)

    # From the store

    def decode(self, obj: ClusterObject) -> Identity:
        """Decoder for the reflector of CiliumIdentity; notes the operator's marks as well."""
        row = decode_identity(obj)
        if UNUSED_ANNOTATION in obj.annotations:
            self._marked.add(row.id)
            if row.id in self._mine:
                self._repair(row.id)
        else:
            self._marked.discard(row.id)
        return row

    async def close(self) -> None:
        """Wait for repairs under way."""
        await asyncio.gather(*self._repairs, return_exceptions=True)

    # Inside

    def _known(self, labels: LabelSet) -> int | None:
        rows = self.table.find("labels", labels.key_string())
        return min((r.id for r in rows if r.source == "store"), default=None)

    async def _find_or_create(self, labels: LabelSet) -> int:
        known = self._known(labels)
        if known is not None and (known not in self._marked or await self._unmark(known, labels)):
            return known
        conflicts = 0
        for number in candidates(labels, self._cluster_id):
            row = self.table.get(number)
            if row is not None and row.labels != labels:
                continue
            if await self._claim(number, labels):
                self.table.upsert(Identity(number, labels))
                return number
            conflicts += 1
            if conflicts > MAX_CONFLICTS:
                raise ConflictError("identity numbers are contended", hint="try again")
        raise ExhaustedError(
            f"no identity left: all {SPAN} numbers of the cluster are taken",
            hint="narrow the identity-relevant labels with the key labels",
        )

    async def _claim(self, number: int, labels: LabelSet) -> bool:
        """Create the object, or adopt the one there; false if it stands for other labels."""
        try:
            await self._store.create(encode_identity(number, labels))
            log.info("identity created", extra={"identity": number, "labels": labels.texts()})
            return True
        except ConflictError:
            pass
        try:
            found = await self._store.get(ObjectKey(KIND, "", str(number)))
            if decode_identity(found).labels != labels:
                return False
        except NotFoundError:
            return await self._claim(number, labels)  # deleted just now: it is free again
        except RetryableError:
            raise  # the store does not answer: that says nothing about the number
        except AxonemeError:
            return False  # unreadable: never ours
        if UNUSED_ANNOTATION in found.annotations:
            return await self._unmark(number, labels)
        return True

    async def _unmark(self, number: int, labels: LabelSet) -> bool:
        """Take the operator's mark away, or make the object again if it is gone.

        False if the number stands for other labels now.
        """
        key = ObjectKey(KIND, "", str(number))
        while True:
            try:
                found = await self._store.get(key)
                row = decode_identity(found)
                if row.labels != labels:
                    self.table.upsert(row)
                    return False
                if UNUSED_ANNOTATION in found.annotations:
                    await self._store.update(_without_mark(found))
                self._marked.discard(number)
                return True
            except NotFoundError:
                if await self._claim(number, labels):
                    return True
            except InvalidObjectError:
                return False  # nobody can read it: never ours
            except ConflictError:
                continue

    def _watch(self, changes: Changes[int, Identity]) -> None:
        for number in self._mine.keys() & changes.deleted.keys():
            self._repair(number)
        for number in self._mine.keys() & changes.upserted.keys():
            if changes.upserted[number].labels != self._mine[number]:
                self._repair(number)

    def _repair(self, number: int) -> None:
        task = asyncio.get_running_loop().create_task(self._restore(number))
        self._repairs.add(task)
        task.add_done_callback(self._repairs.discard)

    async def _restore(self, number: int) -> None:
        labels = self._mine.get(number)
        delay = 0.2
        while labels is not None and number in self._mine:
            try:
                if await self._unmark(number, labels):
                    self.table.upsert(Identity(number, labels))
                elif not self.stands_for(number, labels):
                    log.error("identity lost to other labels", extra={"identity": number})
                    for listener in self._lost:
                        listener(number)
                return
            except AxonemeError as error:
                log.warning(
                    "identity in use could not be restored",
                    extra={"identity": number, "error": str(error)},
                )
                await asyncio.sleep(delay)
                delay = min(30.0, delay * 2)


def _without_mark(obj: ClusterObject) -> dict[str, Any]:
    body = dict(obj.body)
    metadata = dict(body.get("metadata") or {})
    notes = dict(metadata.get("annotations") or {})
    notes.pop(UNUSED_ANNOTATION, None)
    metadata["annotations"] = notes
    body["metadata"] = metadata
    return body
