"""The ``Valid`` condition of policy objects, written by the operator.

One writer for the whole cluster: agents decode for themselves and never touch the object. A
condition is written only when it says something new, so its own write does not come back as work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from axoneme.core.errors import AxonemeError, NotFoundError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.model.policy import Rule
from axoneme.core.store.model import Store
from axoneme.plugins.policy.decode.fields import UnenforceableError

log = logging.getLogger(__name__)

CONDITION: Final = "Valid"
RETRY: Final = 1.0
"""Seconds before a write that the store refused is tried again."""


class PolicyValidator:
    """Follows policy objects and keeps their condition true."""

    def __init__(self, store: Store, decode: Callable[[ClusterObject], Sequence[Rule]]) -> None:
        self._store = store
        self._decode = decode
        self._pending: dict[ObjectKey, ClusterObject] = {}
        self._wake = asyncio.Event()

    async def follow(self, kind: str) -> None:
        """Follow one kind for ever."""
        async for event in self._store.watch(kind):
            if event.key is None:
                continue
            if event.type in ("added", "modified") and event.obj is not None:
                self._pending[event.key] = event.obj
                self._wake.set()
            else:
                self._pending.pop(event.key, None)

    async def write(self) -> None:
        """Write conditions, one object after the other, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                key = next(iter(self._pending))
                await self._write(self._pending.pop(key))

    async def _write(self, obj: ClusterObject) -> None:
        status = self.status(obj)
        if status is None:
            return
        try:
            await self._store.update_status(obj.key, status)
        except NotFoundError:
            return
        except AxonemeError as error:
            log.warning(
                "policy condition not written", extra={"object": str(obj.key), "error": str(error)}
            )
            await asyncio.sleep(RETRY)
            self._pending.setdefault(obj.key, obj)
            self._wake.set()

    def status(self, obj: ClusterObject) -> Mapping[str, Any] | None:
        """The status that the object should have, or ``None`` when it has it."""
        valid, reason, message = self._judge(obj)
        listed: Any = obj.status.get("conditions")
        conditions = [
            c for c in (listed if isinstance(listed, list) else ()) if isinstance(c, Mapping)
        ]
        old = next((c for c in conditions if c.get("type") == CONDITION), None)
        # A NetworkPolicy has no status in Kubernetes: say only what is wrong with it.
        if old is None and valid and obj.key.kind == "NetworkPolicy":
            return None
        word = "True" if valid else "False"
        if old is not None and (old.get("status"), old.get("message")) == (word, message):
            return None
        same = old is not None and old.get("status") == word
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        new = {
            "type": CONDITION,
            "status": word,
            "reason": reason,
            "message": message,
            "lastTransitionTime": (old or {}).get("lastTransitionTime", now) if same else now,
        }
        others = [dict(c) for c in conditions if c.get("type") != CONDITION]
        return {**obj.status, "conditions": [*others, new]}

    def _judge(self, obj: ClusterObject) -> tuple[bool, str, str]:
        try:
            self._decode(obj)
        except UnenforceableError as error:
            return False, "Unenforceable", str(error)
        except Exception as error:  # whatever a user wrote, the others get their condition
            return False, "Invalid", str(error)
        return True, "Accepted", "Policy validation succeeded"
