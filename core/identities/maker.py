"""Making CiliumIdentities: numbers that every node of the cluster agrees on.

The store is the arbiter: the name of a CiliumIdentity is its number and creation is exclusive.
A label set's first candidate is a hash of it and collisions probe onwards, so two that race for
the same labels try the same number and the loser adopts what the winner made. Should two numbers
come to stand for one label set all the same, both are valid and the lower one is used for new
endpoints.

Agents make identities when ``identity-management-mode`` is ``agent`` or ``both``, the operator
when it is ``operator`` or ``both``.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from typing import Any, Final

from axoneme.core.errors import (
    AxonemeError,
    ConflictError,
    ExhaustedError,
    InvalidObjectError,
    NotFoundError,
    RetryableError,
    StoreError,
)
from axoneme.core.identities.objects import (
    KIND,
    UNUSED_ANNOTATION,
    decode_identity,
    encode_identity,
)
from axoneme.core.identities.table import known_number
from axoneme.core.model.identity import MAX_CLUSTER, MIN_CLUSTER, Identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import Table
from axoneme.core.store.model import Store

log = logging.getLogger(__name__)

SPAN: Final = MAX_CLUSTER - MIN_CLUSTER + 1
MAX_CONFLICTS: Final = 64
"""Collisions that the table did not foretell, in one allocation, before giving up for now."""


def candidates(labels: LabelSet, cluster_id: int = 0) -> Iterator[int]:
    """The numbers to try for a label set, in the same order on every node."""
    start = zlib.crc32(labels.key_string().encode())
    for step in range(SPAN):
        yield (cluster_id << 16) | (MIN_CLUSTER + (start + step) % SPAN)


class IdentityMaker:
    """Makes what is not there; a :class:`~axoneme.core.identities.allocator.Numbers`."""

    follows = False
    waiting: tuple[LabelSet, ...] = ()

    def __init__(self, store: Store, table: Table[int, Identity], *, cluster_id: int = 0) -> None:
        self.table = table
        self._store = store
        self._cluster_id = cluster_id
        self._marked: set[int] = set()

    def note(self, number: int, *, unused: bool) -> bool:
        """Hear of the operator's mark on an object; true if a user has to take it away."""
        if unused:
            self._marked.add(number)
        else:
            self._marked.discard(number)
        return unused

    def away(self) -> str:
        """Of the store."""
        return self._store.away()

    def owes(self, number: int) -> bool:
        """Whether an object of ours has the mark."""
        return number in self._marked

    async def number_of(self, labels: LabelSet) -> int:
        """The number of ``labels``, made if there is none.

        Raises ``ExhaustedError`` when the cluster has no number left and ``StoreError`` when
        the store cannot be asked; both may be tried again.
        """
        known = known_number(self.table, labels)
        away = self._store.away()
        if known is not None and (
            known not in self._marked or away or await self.keep(known, labels)
        ):
            return known
        if away:  # asking would take minutes, and be in vain
            names = " ".join(labels.texts())
            raise StoreError(
                f"no identity is known for {names}, and {away}", hint="try again when it is back"
            )
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
            return await self.keep(number, labels)
        return True

    async def keep(self, number: int, labels: LabelSet) -> bool:
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


def _without_mark(obj: ClusterObject) -> dict[str, Any]:
    body = dict(obj.body)
    metadata = dict(body.get("metadata") or {})
    notes = dict(metadata.get("annotations") or {})
    notes.pop(UNUSED_ANNOTATION, None)
    metadata["annotations"] = notes
    body["metadata"] = metadata
    return body
