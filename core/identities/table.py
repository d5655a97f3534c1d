"""Table ``identities``: what is behind a number, and which number stands for labels."""

from __future__ import annotations

from axoneme.core.identities.reserved import reserved_identities
from axoneme.core.model.identity import Identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.state import Table, TableRegistry


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


def known_number(table: Table[int, Identity], labels: LabelSet) -> int | None:
    """The lowest number of the store that stands for ``labels``, if there is one."""
    rows = table.find("labels", labels.key_string())
    # The text is no proof: a value may spell what follows it.
    mine = (r.id for r in rows if r.source == "store" and r.labels == labels)
    return min(mine, default=None)
