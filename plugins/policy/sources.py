"""From policy objects in the store to rules in force, also when an object goes bad.

What is decided here, and why: ``core/decisions/0005-invalid-policies.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from attrs import frozen

from axoneme.core.errors import AxonemeError, InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.model.policy import Rule
from axoneme.plugins.policy.decode.fields import UnenforceableError
from axoneme.plugins.policy.lastgood import LastGood
from axoneme.plugins.policy.tables import InForce, PolicyRow

log = logging.getLogger(__name__)

Decode = Callable[[ClusterObject], Sequence[Rule]]


@frozen
class Outcome:
    """Rules to put in force for an object (``None``: leave those that are) and its row."""

    rules: Sequence[Rule] | None
    row: PolicyRow


class PolicySources:
    """Decides what each version of an object means."""

    def __init__(self, decode: Decode, last_good: LastGood) -> None:
        self._decode = decode
        self._last_good = last_good
        self._seen: set[ObjectKey] = set()
        self._good: dict[ObjectKey, Sequence[Rule] | None] = {}
        self._locks: dict[ObjectKey, Sequence[Rule]] = {}
        self._refused: dict[ObjectKey, str] = {}

    def put(self, obj: ClusterObject) -> Outcome:
        """An object is there, or has changed."""
        try:
            rules = self._read(obj)
        except UnenforceableError as error:
            return self._refuse(obj.key, str(error), locked=error.lockdown)
        except AxonemeError as error:
            return self._refuse(obj.key, str(error))
        self._last_good.remember(obj)
        self._good[obj.key] = rules
        self._locks.pop(obj.key, None)
        return self._accept(obj.key, rules, InForce.CURRENT, "")

    def unchanged(self, obj: ClusterObject) -> bool:
        """Whether an object is what its rules were made of; only its status may differ."""
        return self._refused.get(obj.key) == "" and self._last_good.holds(obj)

    def refuse(self, key: ObjectKey, message: str) -> Outcome:
        """The text of an object cannot even be read."""
        return self._refuse(key, message)

    def remove(self, key: ObjectKey) -> None:
        """An object is deleted."""
        self._seen.discard(key)
        self._good.pop(key, None)
        self._locks.pop(key, None)
        self._refused.pop(key, None)
        self._last_good.forget(key)

    def synced(self) -> None:
        """Everything that exists has been put once."""
        self._last_good.sweep(self._seen)

    def _read(self, obj: ClusterObject) -> Sequence[Rule]:
        try:
            return self._decode(obj)
        except AxonemeError:
            raise
        except Exception as error:  # one bad object never stops the others (CVE-2023-41332)
            log.exception("policy decoder failed", extra={"object": str(obj.key)})
            raise InvalidObjectError(str(obj.key), "", f"cannot be read: {error!r}") from error

    def _refuse(
        self, key: ObjectKey, message: str, locked: Sequence[Rule] | None = None
    ) -> Outcome:
        """With ``locked`` for what is right but ahead; a mistake leaves the locks that are."""
        if locked is not None:
            self._locks[key] = locked
        locks = self._locks.get(key, ())
        good = self._good.get(key)
        if good is None:
            good = self._good[key] = self._recall(key)
        if good is not None:
            return self._accept(key, _locked(good, locks), InForce.LAST_GOOD, message)
        return self._accept(key, locks, InForce.LOCKED if locks else InForce.NONE, message)

    def _recall(self, key: ObjectKey) -> Sequence[Rule] | None:
        """The rules of the version on disk, if they can still be read."""
        kept = self._last_good.recall(key)
        if kept is None:
            return None
        try:
            return self._read(kept)
        except AxonemeError as error:
            log.warning("last good policy refused", extra={"object": str(key), "error": str(error)})
            return None

    def _accept(
        self, key: ObjectKey, rules: Sequence[Rule], force: InForce, message: str
    ) -> Outcome:
        self._seen.add(key)
        if message and self._refused.get(key) != message:
            log.warning("policy refused", extra={"object": str(key), "error": message})
        self._refused[key] = message
        return Outcome(rules, PolicyRow(key, not message, force, len(rules), message))


def _locked(good: Sequence[Rule], locks: Sequence[Rule]) -> Sequence[Rule]:
    """The last good rules, and default deny where the new version is about more than they are."""
    closed = {(r.subject, r.direction) for r in good if r.default_deny}
    added = [r for r in locks if (r.subject, r.direction) not in closed]
    return [*good, *added] if added else good
