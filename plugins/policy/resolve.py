"""From what the rules say about one peer to its entries.

A trie answers with its longest prefix, not with its most important one. Where nothing passes to
another tier, :func:`outranked` therefore keeps an entry only if no shorter one of the same peer
outranks it: a deny of all TCP removes the allow of port 80 beside it (CVE-2024-47825,
CVE-2024-52529). What anybody may is weighed against it by the packet path.

A pass takes back what comes after it in its tier, anybody's rules too, which no comparison of two
precedences can say. A peer that something passes for gets :func:`whole` answers: an entry for each
L4 prefix that any rule names, decided over the rules of the peer and of anybody together, and
never weighed against anything again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from axoneme.core.model.policy import L7Rules
from axoneme.plugins.policy.entries import (
    ALLOW_BYTE,
    DENY_BYTE,
    PASS_BYTE,
    WHOLE,
    WHOLE_DEFAULT,
    PolicyValue,
    tier_of,
)
from axoneme.plugins.policy.l4 import ANY, L4

Proxies = Mapping[str, int]
"""Port of the proxy of each L7 protocol."""


Way = tuple[L4, int]
"""Prefix and rank of a redirect."""


class Claim(NamedTuple):
    """What one rule says about one L4 prefix of one peer."""

    l4: L4
    precedence: int
    cookie: int
    l7: L7Rules | None = None

    @property
    def passes(self) -> bool:
        """Whether it leaves the matter to the next tier."""
        return self.precedence & 0xFF == PASS_BYTE


class Seen(NamedTuple):
    """What a proxy may let through on one L4 prefix; ``rules`` ``None``: everything."""

    l4: L4
    protocol: str
    rules: tuple[str, ...] | None
    whole: bool = False


class Decision(NamedTuple):
    """The entries of one peer, and what proxies must know of it."""

    entries: list[tuple[L4, PolicyValue]]
    l7: tuple[Seen, ...] = ()


NOTHING: Final = Decision([])


def _earlier(one: Claim, other: Claim | None) -> bool:
    """Whether a claim comes before another; of equal ones the lowest cookie is named, so that the
    answer does not depend on the order of rules."""
    if other is None or one.precedence != other.precedence:
        return other is None or one.precedence > other.precedence
    return one.cookie < other.cookie


def outranked(claims: Iterable[Claim]) -> dict[L4, Claim]:
    """The deciding claim of each prefix, without those that a shorter prefix outranks."""
    best: dict[L4, Claim] = {}
    for claim in claims:
        if _earlier(claim, best.get(claim.l4)):
            best[claim.l4] = claim
    return {
        l4: claim
        for l4, claim in best.items()
        if not any(best[p].precedence > claim.precedence for p in l4.parents() if p in best)
    }


def decide(claims: Iterable[Claim], proxies: Proxies) -> list[tuple[L4, PolicyValue]]:
    """Entries of a peer that nothing passes for."""
    return [(l4, value_of(l4, claim, proxies)) for l4, claim in outranked(claims).items()]


def whole(claims: Iterable[Claim], proxies: Proxies) -> list[tuple[L4, PolicyValue]]:
    """Entries that answer for all ``claims``, those of anybody and the default among them."""
    by_prefix = _by_prefix(claims)
    return [(l4, _answer(l4, by_prefix, proxies)) for l4 in by_prefix]


def _by_prefix(claims: Iterable[Claim]) -> Mapping[L4, list[Claim]]:
    """Claims by what they are about; nothing in particular is always among it."""
    found: dict[L4, list[Claim]] = {ANY: []}
    for claim in claims:
        found.setdefault(claim.l4, []).append(claim)
    return found


def _answer(l4: L4, by_prefix: Mapping[L4, list[Claim]], proxies: Proxies) -> PolicyValue:
    found = first(c for p in (l4, *l4.parents()) for c in by_prefix.get(p, ()))
    if found is None:
        return PolicyValue(WHOLE_DEFAULT, True, 0, l4.bits)
    value = value_of(l4, found, proxies)
    return value._replace(precedence=WHOLE_DEFAULT if value.by_default else WHOLE)


def first(matching: Iterable[Claim]) -> Claim | None:
    """Which of the claims that match a packet decides; ``None``: none does."""
    passed = -1
    for claim in sorted(matching, key=lambda c: (-c.precedence, c.cookie)):
        tier = tier_of(claim.precedence)
        if tier == passed:
            continue
        if not claim.passes:
            return claim
        passed = tier
    return None


def value_of(l4: L4, claim: Claim, proxies: Proxies) -> PolicyValue:
    """The map value of a decided claim. What a proxy must see is dropped while there is none."""
    said, port = claim.precedence & 0xFF, 0
    if claim.l7 is not None and ALLOW_BYTE < said < DENY_BYTE:
        port = proxies.get(claim.l7.protocol, 0)
        if not port:
            return PolicyValue(claim.precedence, True, claim.cookie, l4.bits)
    return PolicyValue(claim.precedence, said == DENY_BYTE, claim.cookie, l4.bits, port)


def seen_by_proxies(claims: Iterable[Claim], caught: Iterable[Way]) -> tuple[Seen, ...]:
    """What proxies must know of a peer: its redirects, and its plain allows in their way.

    ``caught``: the redirects of others that may catch this peer's traffic as well.
    """
    claims = list(claims)
    ways = {(c.l4, c.precedence >> 8) for c in claims if c.l7 is not None}.union(caught)
    if not ways:
        return ()
    found: dict[L4, tuple[str, frozenset[str] | None]] = {}
    for claim in claims:
        if claim.l7 is not None:
            protocol, rules = found.get(claim.l4, ("", frozenset()))
            more = frozenset(claim.l7.rules) or None
            union = None if rules is None or more is None else rules | more
            found[claim.l4] = claim.l7.protocol, union
        elif claim.precedence & 0xFF == ALLOW_BYTE and any(_in_way(claim, way) for way in ways):
            protocol, _ = found.get(claim.l4, ("", None))
            found[claim.l4] = protocol, None
    return tuple(
        Seen(l4, protocol, None if rules is None else tuple(sorted(rules)))
        for l4, (protocol, rules) in sorted(found.items())
    )


def seen_whole(claims: Iterable[Claim]) -> tuple[Seen, ...]:
    """What proxies must know of a peer that has :func:`whole` answers: at each prefix that goes to
    a proxy, all that is allowed at the place that decides there."""
    by_prefix = _by_prefix(claims)
    found = []
    for l4 in by_prefix:
        matching = [c for p in (l4, *l4.parents()) for c in by_prefix.get(p, ())]
        deciding = first(matching)
        if deciding is None or deciding.l7 is None:
            continue
        beside = [c for c in matching if c.precedence >> 8 == deciding.precedence >> 8]
        said = [c.l7.rules if c.l7 is not None else () for c in beside if not c.passes]
        rules = tuple(sorted({r for rules in said for r in rules})) if all(said) else None
        found.append(Seen(l4, deciding.l7.protocol, rules, whole=True))
    return tuple(sorted(found, key=lambda seen: seen.l4))


def _in_way(claim: Claim, way: Way) -> bool:
    """Whether a plain allow speaks for packets that a redirect of its rank or below it catches."""
    l4, rank = way
    return claim.precedence >> 8 >= rank and _meet(claim.l4, l4)


def _meet(one: L4, other: L4) -> bool:
    """Whether a packet may lie in both prefixes."""
    short, long = sorted((one, other), key=lambda l4: l4.bits)
    return short == long or short in long.parents()
