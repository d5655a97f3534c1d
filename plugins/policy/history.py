"""Which rule a cookie led to at some moment: events outlive the rules that decided them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from attrs import evolve, frozen

from axoneme.core.state import Changes, Table
from axoneme.plugins.policy.tables import RuleRow

MAX_KEPT: Final = 4096
"""Former rules that are remembered."""


@frozen
class Version:
    """A rule and when it was in force; seconds since 1970, ``until`` 0: still."""

    row: RuleRow
    since: float
    until: float = 0.0


class RuleHistory:
    """Subscribes to table ``rules``. The kernel follows the table soon after."""

    def __init__(self, rules: Table[int, RuleRow], clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._now: dict[int, Version] = {}
        self._past: OrderedDict[tuple[int, float], Version] = OrderedDict()
        self._changed(Changes(upserted=dict(rules.items())))
        rules.subscribe(self._changed)

    def at(self, cookie: int, moment: float) -> Version | None:
        """The rule that had ``cookie`` at ``moment``, if it is still remembered."""
        current = self._now.get(cookie)
        if current is not None and current.since <= moment:
            return current
        past = [v for (number, _), v in self._past.items() if number == cookie]
        fitting = [v for v in past if v.since <= moment]
        return fitting[-1] if fitting else (past[0] if past else current)

    def _changed(self, changes: Changes[int, RuleRow]) -> None:
        moment = self._clock()
        for cookie in changes.deleted:
            self._end(cookie, moment)
        for cookie, row in changes.upserted.items():
            current = self._now.get(cookie)
            if current is None or current.row != row:
                self._end(cookie, moment)
                self._now[cookie] = Version(row, moment)

    def _end(self, cookie: int, moment: float) -> None:
        current = self._now.pop(cookie, None)
        if current is not None:
            self._past[cookie, current.since] = evolve(current, until=moment)
        while len(self._past) > MAX_KEPT:
            self._past.popitem(last=False)
