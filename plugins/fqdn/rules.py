"""Who may ask whom for which names: the rows of table ``l7_policy`` as the proxy uses them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from axoneme.core.dns_names import allows
from axoneme.core.model.l7 import L7Row, rows_for

PROTOCOL: Final = "dns"
MAX_ROWS: Final = 1_000_000

Plain = list[Any]
"""A row as JSON: subject, peer, protocol number, port, bits, rules or null, whether whole."""


def to_plain(row: L7Row) -> Plain:
    """A row for the wire."""
    rules = None if row.rules is None else list(row.rules)
    return [row.subject, row.peer, row.ip_protocol, row.port, row.bits, rules, row.whole]


def from_plain(plain: Sequence[Any]) -> L7Row:
    """A row from the wire. Raises ``ValueError`` or ``TypeError`` for what is none."""
    subject, peer, protocol, port, bits, rules, whole = plain
    texts = None if rules is None else tuple(str(r) for r in rules)
    numbers = (int(peer), int(protocol), int(port), int(bits))
    return L7Row(int(subject), True, *numbers, PROTOCOL, texts, bool(whole))


class RuleBook:
    """Rows by subject. What no row covers is refused."""

    def __init__(self, rows: Iterable[L7Row] = ()) -> None:
        self._rows: defaultdict[int, list[L7Row]] = defaultdict(list)
        for row in rows:
            self._rows[row.subject].append(row)

    def allows(self, subject: int, peer: int, ip_protocol: int, port: int, name: str) -> bool:
        """Whether ``subject`` may ask the server ``peer`` for a canonical name."""
        rows = rows_for(self._rows.get(subject, ()), peer, ip_protocol, port)
        return any(not row.rules or allows(row.rules, name) for row in rows)

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))
