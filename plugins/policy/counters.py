"""What policy entries have decided: packets and bytes in ``axo_policystats``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from attrs import frozen

from axoneme.core.datapath.typed import TypedMap, network
from axoneme.plugins.policy.config import ACCOUNTING
from axoneme.plugins.policy.entries import PolicyKey

if TYPE_CHECKING:
    from axoneme.core.agent import Agent

MAP: Final = "axo_policystats"


@frozen
class StatKey:
    """``struct axo_policy_stat_key``."""

    subject: int
    peer: int
    cookie: int
    prefix_len: int
    proto: int
    dir: int
    port: int = network()


@frozen
class StatValue:
    """``struct axo_policy_stat``; read from the map it is the sum over the CPUs."""

    packets: int
    bytes: int


class Counted(NamedTuple):
    """Identity of the subject, entry, rule."""

    subject: int
    entry: PolicyKey
    cookie: int


Counters = Mapping[Counted, StatValue]


def read(stats: TypedMap[StatKey, StatValue]) -> Counters:
    """All counters there are; entries that have decided nothing, or nothing lately, have none."""
    found = {}
    for key, value in stats.items():
        entry = PolicyKey(key.peer, key.dir, key.proto, key.port, key.prefix_len)
        found[Counted(key.subject, entry, key.cookie)] = value
    return found


def counters_of(agent: Agent) -> Callable[[], Counters] | None:
    """How to read an agent's counters; ``None`` without ``policy-accounting``."""
    if not agent.config.flag(ACCOUNTING):
        return None
    return lambda: read(agent.datapath.typed(MAP, StatKey, StatValue))
