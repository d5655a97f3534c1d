"""Policy entries: what stands in the kernel's map for one subject, and how it gets decided.

The packet path looks a packet up twice, under its peer and under peer 0 (anybody), takes the
longest L4 prefix of each, and lets the higher precedence win; then the longer L4 prefix; then
the peer's own entry. A trie answers with its longest prefix, not with its most important one,
so :func:`resolve` keeps an entry only if no shorter one of the same peer outranks it: a deny of
all TCP removes the allow of port 80 beside it (CVE-2024-47825, CVE-2024-52529).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from axoneme.plugins.policy.l4 import L4

INGRESS: Final = 0
EGRESS: Final = 1

ALLOW: Final = 1
"""Precedence of an allow; reference §2.3 leaves room for redirects and tiers above it."""
DENY: Final = 255

ANY_PEER: Final = 0


class PolicyKey(NamedTuple):
    """Peer identity (0: anybody), direction, protocol, port (host order), significant bits."""

    peer: int
    direction: int
    protocol: int
    port: int
    bits: int

    @property
    def l4(self) -> L4:
        """The part below the peer."""
        return L4(self.protocol, self.port, self.bits)


class PolicyValue(NamedTuple):
    """Verdict of an entry. ``cookie`` leads to the rule that decided; 0 is the default.

    ``known_only``: of an entry for anybody, that it holds for peers that policy has met.
    """

    precedence: int
    deny: bool
    cookie: int
    prefix_len: int
    proxy_port: int = 0
    known_only: bool = False


Entries = Mapping[PolicyKey, PolicyValue]


class Claim(NamedTuple):
    """What one rule says about one L4 prefix of one peer."""

    l4: L4
    precedence: int
    cookie: int


def resolve(claims: Iterable[Claim]) -> dict[L4, tuple[int, int]]:
    """Decide the claims of one peer: prefix to ``(precedence, cookie)``, outranked ones gone.

    Of equal claims on one prefix the lowest cookie is named, so the answer does not depend on
    the order of rules.
    """
    best: dict[L4, tuple[int, int]] = {}
    for l4, precedence, cookie in claims:
        old = best.get(l4)
        if old is None or precedence > old[0] or (precedence == old[0] and cookie < old[1]):
            best[l4] = (precedence, cookie)
    return {
        l4: claim
        for l4, claim in best.items()
        if not any(best[p][0] > claim[0] for p in l4.parents() if p in best)
    }


def value_of(l4: L4, claim: tuple[int, int]) -> PolicyValue:
    """The map value of a decided claim."""
    precedence, cookie = claim
    return PolicyValue(precedence, precedence == DENY, cookie, l4.bits)


def lookup(
    entries: Entries, peer: int, direction: int, protocol: int, port: int, *, known: bool = True
) -> PolicyValue | None:
    """What the packet path would find; ``None`` drops. For explanations and tests.

    ``known``: policy has met the peer.
    """
    own = _longest(entries, peer, direction, protocol, port)
    anybody = _longest(entries, ANY_PEER, direction, protocol, port)
    if own is None and anybody is not None and anybody.known_only and not known:
        return None
    if own is None or anybody is None:
        return own or anybody
    if own.precedence != anybody.precedence:
        return max(own, anybody, key=lambda value: value.precedence)
    return anybody if anybody.prefix_len > own.prefix_len else own


def _longest(
    entries: Entries, peer: int, direction: int, protocol: int, port: int
) -> PolicyValue | None:
    exact = L4(protocol, port, 24)
    for l4 in (exact, *exact.parents()):
        found = entries.get(PolicyKey(peer, direction, *l4))
        if found is not None:
            return found
    return None
