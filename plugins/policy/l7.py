"""What proxies are told: the rows that they obey, and the names that rules ask for.

Also the way back: which protocol's proxy listens where, which the engine writes into entries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import evolve

from axoneme.core.model.l7 import L7Registry, L7Row
from axoneme.core.model.policy import FqdnPeer, Rule
from axoneme.core.state import Table, TableRegistry
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.entries import EGRESS
from axoneme.plugins.policy.subjects import Delta, Settings

ROWS: Final = "l7_policy"
PEERS: Final = "fqdn_peers"

RowKey = tuple[int, bool, int, int, int, int]


def with_protocols(settings: Settings, registry: L7Registry) -> Settings:
    """Settings with the protocols of a registry and the ports that their proxies have now."""
    return evolve(
        settings,
        redirects={p.name: p.precedence for p in registry},
        proxies={p.name: p.proxy_port() for p in registry},
    )


class ProxyTables:
    """Tables ``l7_policy`` (:class:`L7Row`) and ``fqdn_peers`` (:class:`FqdnPeer` in use)."""

    def __init__(self, tables: TableRegistry) -> None:
        self.rows: Table[RowKey, L7Row] = tables.create(ROWS, L7Row, key=lambda r: r.key)
        self.peers: Table[str, FqdnPeer] = tables.create(PEERS, FqdnPeer, key=lambda r: r.label_key)
        self._users: Counter[FqdnPeer] = Counter()
        self._keys: dict[int, dict[tuple[int, int], set[RowKey]]] = {}

    def publish(self, deltas: Mapping[int, Delta]) -> None:
        """Bring the rows in line with what a flush has changed."""
        with self.rows.transaction():
            for subject, delta in deltas.items():
                if delta.gone:
                    for keys in self._keys.pop(subject, {}).values():
                        self._delete(keys)
                for place, seen in delta.l7.items():
                    direction, peer = place
                    rows = [
                        L7Row(
                            subject, direction == EGRESS, peer, *s.l4, s.protocol, s.rules, s.whole
                        )
                        for s in seen
                    ]
                    self._replace(subject, place, rows)

    def _replace(self, subject: int, place: tuple[int, int], rows: list[L7Row]) -> None:
        held = self._keys.setdefault(subject, {})
        keys = {row.key for row in rows}
        self._delete(held.pop(place, set()) - keys)
        for row in rows:
            self.rows.upsert(row)
        if keys:
            held[place] = keys
        if not held:
            del self._keys[subject]

    def _delete(self, keys: Iterable[RowKey]) -> None:
        for key in keys:
            self.rows.delete(key)

    def count(self, removed: Iterable[Rule], added: Iterable[Rule]) -> None:
        """Note which names rules ask for."""
        for rule in added:
            self._users.update(rule.fqdns or ())
            for peer in rule.fqdns or ():
                self.peers.upsert(peer)
        for rule in removed:
            for peer in rule.fqdns or ():
                self._users[peer] -= 1
                if self._users[peer] <= 0:
                    del self._users[peer]
                    if not any(other.label_key == peer.label_key for other in self._users):
                        self.peers.delete(peer.label_key)


def follow_registry(engine: PolicyEngine, registry: L7Registry) -> bool:
    """Take up what the registry says now; whether that is something new."""
    wanted = with_protocols(engine.settings, registry)
    if wanted == engine.settings:
        return False
    engine.set_settings(wanted)
    return True
