"""What the peers of one subject may in one direction: rules in, decisions out.

Peers that the same selectors match share one decision, so one decider lives as long as a pass over
the peers that have to be decided, and not longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from axoneme.core.model.identity import Reserved
from axoneme.core.model.labels import CIDR
from axoneme.core.model.policy import Action
from axoneme.plugins.policy.entries import ANY_PEER, COMMON, INGRESS, PolicyValue
from axoneme.plugins.policy.l4 import L4
from axoneme.plugins.policy.resolve import (
    Claim,
    Decision,
    decide,
    seen_by_proxies,
    seen_whole,
    whole,
)
from axoneme.plugins.policy.selectors import SelectorCache
from axoneme.plugins.policy.subjects import Settings, Subject
from axoneme.plugins.policy.terms import DEFAULTS, LOCALHOST, NamedPorts, Term

PeerPorts = Mapping[int, tuple[NamedPorts, NamedPorts]]

NO_PORTS: tuple[NamedPorts, NamedPorts] = ({}, {})


class Decider:
    """For one subject and direction; ``enforced``: nothing passes without a rule."""

    def __init__(
        self,
        settings: Settings,
        selectors: SelectorCache,
        peer_ports: PeerPorts,
        subject: Subject,
        direction: int,
        *,
        enforced: bool,
    ) -> None:
        self._settings = settings
        self._selectors = selectors
        self._peer_ports = peer_ports
        self._subject = subject
        self._direction = direction
        self._enforced = enforced
        self._terms = subject.terms[direction]
        self._decided: dict[tuple[frozenset[int], bool, bool], Decision] = {}

    def decide(self, peer: int) -> Decision:
        """The entries of one peer, and what proxies must know of it."""
        handles = frozenset(self.handles(peer))
        special = peer == ANY_PEER or (peer == Reserved.HOST and self._direction == INGRESS)
        alike = handles, self._note(peer, handles), self._stands_for_addresses(peer)
        if not special and alike in self._decided:
            return self._decided[alike]
        terms = self.terms(handles)
        decision = self._decide(peer, terms, whole_answer=alike[1])
        if not special and (self._direction == INGRESS or not any(t.names for t in terms)):
            self._decided[alike] = decision
        return decision

    def handles(self, peer: int) -> Iterable[int]:
        """Handles of the subject's peer selectors that match a peer."""
        of_handle = self._terms.keys()
        if self._settings.mode == "never":
            return ()
        if peer == ANY_PEER:
            return of_handle & {ANY_PEER}
        return self._selectors.handles_of(peer) & of_handle

    def terms(self, handles: Iterable[int]) -> dict[Term, None]:
        """The terms behind handles, each once.

        Those of the baseline count only where no other policy enforces the direction: it would
        have had the last word.
        """
        closed = bool(self._subject.enforcing[self._direction])
        found = (term for handle in handles for term in self._terms[handle])
        return {term: None for term in found if not (closed and term.is_baseline)}

    def claims(self, peer: int, terms: Iterable[Term]) -> list[Claim]:
        """What terms say about one peer, with the meaning that port names have there."""
        # A name on egress means what it means on any pod of the peer: reference §2.3.
        if self._direction == INGRESS:
            every, some = self._subject.ports
        else:
            every = some = self._peer_ports.get(peer, NO_PORTS)[1]
        return [c for t in terms for c in t.claims(some if t.action == Action.DENY else every)]

    def defaults(self, peer: int) -> list[Term]:
        """What holds without any rule: everything where nothing is enforced; else the host."""
        if peer == ANY_PEER:
            return [] if self._enforced else [DEFAULTS[self._direction]]
        if peer != Reserved.HOST or self._direction != INGRESS:
            return []
        return [LOCALHOST] if self._enforced and self._settings.allow_localhost else []

    def everything(self, peer: int, terms: Iterable[Term] | None = None) -> list[Claim]:
        """All that is said about a peer: of it, of anybody, and by default."""
        own = self.terms(self.handles(peer)) if terms is None else terms
        common = [*self.terms(self.handles(ANY_PEER)), *self.defaults(ANY_PEER)]
        claims = self.claims(peer, [*own, *self.defaults(peer)])
        return claims if peer == ANY_PEER else claims + self.claims(peer, common)

    def _note(self, peer: int, handles: Iterable[int]) -> bool:
        """Whether the peer needs whole answers; remembers who does."""
        found = any(t.action == Action.PASS for h in handles for t in self._terms[h])
        known = self._subject.whole[self._direction]
        (known.add if found else known.discard)(peer)
        return found

    def _decide(self, peer: int, terms: dict[Term, None], *, whole_answer: bool) -> Decision:
        proxies = self._settings.proxies
        if whole_answer:
            claims = self.everything(peer, terms)
            entries = whole(claims, proxies)
            if peer == ANY_PEER:
                entries = [(l4, v._replace(precedence=v.precedence - COMMON)) for l4, v in entries]
            seen = seen_whole(claims)
        else:
            claims = self.claims(peer, [*terms, *self.defaults(peer)])
            claims = [claim for claim in claims if not claim.passes]
            entries = decide(claims, proxies)
            ways = self._subject.ways if peer == ANY_PEER else self._subject.common_ways
            seen = seen_by_proxies(claims, ways[self._direction])
        if self._may_be_denied() and (peer == ANY_PEER or self._stands_for_addresses(peer)):
            entries = [_known_only(entry) for entry in entries]
        return Decision(entries, seen)

    def _stands_for_addresses(self, peer: int) -> bool:
        """Whether a peer is what CIDR rules say of nodes and pods (``policy-cidr-match-mode``)."""
        labels = self._selectors.labels(peer)
        return labels is not None and all(label.source == CIDR for label in labels)

    def _may_be_denied(self) -> bool:
        """Whether somebody new may be who has less than anybody."""
        return bool(self._subject.selective[self._direction]) and self._settings.mode != "never"


def _known_only(entry: tuple[L4, PolicyValue]) -> tuple[L4, PolicyValue]:
    l4, value = entry
    return entry if value.deny else (l4, value._replace(known_only=True))
