"""Prefixes, precedence, and plans: the arithmetic below the engine."""

from __future__ import annotations

import random
from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axoneme.core.model.policy import PortRange
from axoneme.plugins.policy.entries import ALLOW, ANY_PEER, DENY, PolicyKey, PolicyValue, lookup
from axoneme.plugins.policy.l4 import ANY, L4, TCP, UDP, prefixes, split
from axoneme.plugins.policy.plan import difference, plan
from axoneme.plugins.policy.resolve import Claim, decide, outranked


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_ranges_split_exactly(a: int, b: int) -> None:
    """The prefixes of a range cover its ports, each once, and no other."""
    first, last = min(a, b), max(a, b)
    covered = []
    for port, bits in split(first, last):
        assert port % (1 << (16 - bits)) == 0
        covered.append((port, port + (1 << (16 - bits)) - 1))
    assert covered[0][0] == first and covered[-1][1] == last
    assert all(low == high + 1 for (_, high), (low, _) in pairwise(covered))
    assert len(covered) <= 30


@pytest.mark.parametrize(
    ("ports", "texts"),
    [
        (PortRange(), ["ANY"]),
        (PortRange(6), ["ANY/TCP"]),
        (PortRange(0, 80, 80), ["80/TCP", "80/UDP", "80/SCTP"]),
        (PortRange(17, 80, 83), ["80-83/UDP"]),
        (PortRange(1, 0, 0, family_icmp=True), ["0/ICMP"]),
    ],
)
def test_prefixes(ports: PortRange, texts: list[str]) -> None:
    """Any, protocol, port, range, ICMP type 0: none is taken for another."""
    assert [str(p) for p in prefixes(ports)] == texts


PEER = 300
_RANGES = [PortRange(), PortRange(6), PortRange(17)] + [
    PortRange(p, first, last) for p in (6, 17) for first, last in ((8, 15), (8, 8), (9, 12), (0, 0))
]
CLAIMS = st.lists(
    st.tuples(st.sampled_from([ANY_PEER, PEER]), st.sampled_from(_RANGES), st.booleans()),
    max_size=6,
)
PACKETS = [(proto, port) for proto in (TCP, UDP, 1) for port in (0, 7, 8, 9, 10, 12, 13, 15, 16)]


def entries_of(claims: list[tuple[int, PortRange, bool]]) -> dict[PolicyKey, PolicyValue]:
    """Entries of one subject out of (peer, ports, deny)."""
    found = {}
    for peer in (ANY_PEER, PEER):
        own = [
            Claim(l4, DENY if deny else ALLOW, 1 + number)
            for number, (who, ports, deny) in enumerate(claims)
            for l4 in prefixes(ports)
            if who == peer
        ]
        for l4, value in decide(own, {}):
            found[PolicyKey(peer, 0, *l4)] = value
    return found


def passes(entries: Any, packet: tuple[int, int]) -> bool:
    found = lookup(entries, PEER, 0, *packet)
    return found is not None and not found.deny


@settings(max_examples=400, deadline=None)
@given(CLAIMS)
def test_deny_wins_over_the_whole_set(claims: list[tuple[int, PortRange, bool]]) -> None:
    """A deny of any width beats an allow of any width, of the peer or of anybody.

    CVE-2024-47825, CVE-2024-52529: precedence is decided over all rules, not by prefix length.
    """
    entries = entries_of(claims)
    for proto, port in PACKETS:
        matching = [
            deny for _, ports, deny in claims if any(p.covers(proto, port) for p in prefixes(ports))
        ]
        assert passes(entries, (proto, port)) == (bool(matching) and not any(matching))


def test_a_wide_deny_removes_the_narrow_allow() -> None:
    """The entry that a trie would answer with first is not there to hide the deny."""
    claims = [(PEER, PortRange(6, 80, 80), False), (PEER, PortRange(6), True)]
    assert [(k.l4, v.deny) for k, v in entries_of(claims).items()] == [(L4(6, 0, 8), True)]


def test_equal_claims_name_the_lowest_cookie() -> None:
    """Which rule is named does not depend on the order of rules."""
    claims = [Claim(ANY, ALLOW, 7), Claim(ANY, ALLOW, 3), Claim(ANY, ALLOW, 5)]
    assert {outranked(p)[ANY] for p in permutations(claims)} == {claims[1]}


def _states(old: Any, new: Any, chance: random.Random) -> list[dict[PolicyKey, PolicyValue]]:
    """Every state that a trie goes through, entries of one step in random order."""
    upserts, deletes = difference(old, new)
    steps = plan(old, upserts, deletes)
    if steps.swap:
        return [old, new]
    states, present = [dict(old)], dict(old)
    for step in (list(steps.first), list(steps.then)):
        for key, value in chance.sample(step, len(step)):
            present[key] = value
            states.append(dict(present))
    for key in chance.sample(steps.last, len(steps.last)):
        del present[key]
        states.append(dict(present))
    assert present == new
    return states


@settings(max_examples=600, deadline=None)
@given(CLAIMS, CLAIMS, st.randoms())
def test_no_moment_between_two_states_is_wrong(
    before: list[Any], after: list[Any], chance: random.Random
) -> None:
    """A packet denied before and after never passes meanwhile; one allowed in both never drops.

    A reader looks at any peer's entries in one state, at its own in that one or a later one.
    """
    old, new = entries_of(before), entries_of(after)
    states = _states(old, new, chance)
    swap = plan(old, *difference(old, new)).swap  # then a reader keeps the trie that it began with
    steady = [p for p in PACKETS if passes(old, p) == passes(new, p)]
    for number, first in enumerate(states):
        for second in [first] if swap else states[number:]:
            seen = {k: v for k, v in first.items() if not k.peer}
            seen |= {k: v for k, v in second.items() if k.peer}
            for packet in steady:
                assert passes(seen, packet) == passes(old, packet), packet


def test_a_deny_that_moves_to_any_peer_swaps() -> None:
    """A reader that saw the old allow of any peer must not miss the deny of its own after that."""
    old = entries_of([(ANY_PEER, PortRange(), False), (PEER, PortRange(), True)])
    new = entries_of([(ANY_PEER, PortRange(), True)])
    assert plan(old, *difference(old, new)).swap


def test_a_deny_that_goes_alone_is_a_patch() -> None:
    """Nothing else could be put together with it."""
    old = entries_of([(ANY_PEER, PortRange(), False), (PEER, PortRange(6), True)])
    new = entries_of([(ANY_PEER, PortRange(), False)])
    assert not plan(old, *difference(old, new)).swap


def test_adding_an_allow_is_a_patch() -> None:
    """The common change touches its own entries and nothing else."""
    old = entries_of([(ANY_PEER, PortRange(6, 8, 8), False)])
    new = entries_of([(ANY_PEER, PortRange(6, 8, 8), False), (PEER, PortRange(17), False)])
    steps = plan(old, *difference(old, new))
    assert not steps.swap and len(steps.then) == 1 and not steps.first and not steps.last
