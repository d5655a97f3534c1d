"""Policy entries: what stands in the kernel's map for one subject, and how a packet finds it.

The packet path looks a packet up twice, under its peer and under peer 0 (anybody), takes the
longest L4 prefix of each, and lets the higher precedence win; then the longer L4 prefix; then
the peer's own entry. How rules become entries is the matter of :mod:`.resolve`.

A precedence is 32 bits: when the rule is asked (24 bits, higher is earlier), then what it says
(8 bits): 255 deny, 129 to 254 a proxy has to look, 1 allow, 0 pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from axoneme.core.model.policy import MAX_ORDER, MAX_PRIORITY, Action, Tier
from axoneme.plugins.policy.l4 import L4

INGRESS: Final = 0
EGRESS: Final = 1

PLACES: Final = (MAX_PRIORITY + 1) * (MAX_ORDER + 1)
_FIRST: Final[dict[int, int]] = {
    tier: (len(Tier) - number) * PLACES - 1 for number, tier in enumerate(Tier)
}
"""Rank of what each tier asks first; the last of the last tier still comes before the default."""

PASS_BYTE: Final = 0
ALLOW_BYTE: Final = 1
DENY_BYTE: Final = 255


def rank_of(tier: Tier, priority: int, order: int) -> int:
    """When a rule is asked: 24 bits, at least 1, higher is earlier."""
    return _FIRST[tier] - priority * (MAX_ORDER + 1) - order + 1


def tier_of(precedence: int) -> int:
    """A number for the tier of a precedence: equal for equal tiers, 0 for the default."""
    return ((precedence >> 8) + PLACES - 1) // PLACES


def precedence_of(rank: int, action: Action, redirect: int = 0) -> int:
    """Rank and what is said there; ``redirect``: the byte of an allow that a proxy looks at."""
    said = {Action.ALLOW: redirect or ALLOW_BYTE, Action.DENY: DENY_BYTE, Action.PASS: PASS_BYTE}
    return rank << 8 | said[action]


DEFAULT: Final = precedence_of(0, Action.ALLOW)
"""Of what holds where no rule says anything."""
ALLOW: Final = precedence_of(rank_of(Tier.NORMAL, 0, 0), Action.ALLOW)
"""Of an allow of Kubernetes and Cilium."""
DENY: Final = precedence_of(rank_of(Tier.NORMAL, 0, 0), Action.DENY)
"""Of a deny of Cilium."""
WHOLE: Final = 0xFFFFFF << 8 | DENY_BYTE
"""Of an entry that answers for all rules, anybody's too."""
WHOLE_DEFAULT: Final = 0xFFFFFF << 8 | ALLOW_BYTE
"""Of one that denies because none of them allows."""
COMMON: Final = 1 << 8
"""How far those of anybody lie below those of a peer, which have weighed anybody's already."""

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

    @property
    def by_default(self) -> bool:
        """Of a deny: that no rule says so, but none allows what is asked either."""
        return self.deny and self.precedence & 0xFF != DENY_BYTE


Entries = Mapping[PolicyKey, PolicyValue]


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
