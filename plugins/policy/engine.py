"""The policy engine: identities and rules in, map entries per subject identity out.

Pure: no clock, no loop, no kernel. Every input marks what it touches, as (subject, direction,
peer), and :meth:`PolicyEngine.flush` recomputes just that. Peer 0 is anybody. What a peer gets
depends only on which rules select it, so peers with the same rules share one decision.

Invariant, held by a test against a reference and one against a fresh engine: after ``flush`` the
entries of a subject are a function of the rules, identities, subjects and named ports alone, not
of the order in which they came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain

from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.identity import Reserved
from axoneme.core.model.labels import RESERVED, LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import Rule
from axoneme.plugins.policy.decider import NO_PORTS, Decider
from axoneme.plugins.policy.entries import ANY_PEER, EGRESS, INGRESS, Entries
from axoneme.plugins.policy.resolve import Seen
from axoneme.plugins.policy.selectors import Prefix, SelectorCache
from axoneme.plugins.policy.subjects import (
    Changing,
    Compiled,
    Delta,
    Place,
    RuleChange,
    Settings,
    Subject,
)
from axoneme.plugins.policy.terms import (
    Cookies,
    NamedPorts,
    Term,
    compile_rule,
    directions,
    named_ports,
)

DIRECTIONS = (INGRESS, EGRESS)


class PolicyEngine:
    """Computes entries; see the module's docstring."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.selectors = SelectorCache()
        self._cookies = Cookies()
        self._rules: dict[int, Compiled] = {}
        self._of_object: dict[ObjectKey, dict[Rule, int]] = {}
        self._by_subject_handle: defaultdict[int, set[int]] = defaultdict(set)
        self._users: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
        self._subjects: dict[int, Subject] = {}
        self._peer_ports: dict[int, tuple[NamedPorts, NamedPorts]] = {}
        self._gone: dict[int, Subject] = {}
        self.peers_computed = 0
        """(subject, direction, peer) decisions ever made: the measure of work done."""

    def set_settings(self, settings: Settings) -> None:
        """Have everything that the settings say differently decided again."""
        old, self.settings = self.settings, settings
        if old.redirects != settings.redirects:
            self._compile_redirects()
        if (old.mode, old.allow_localhost) == (settings.mode, settings.allow_localhost):
            if old.proxies != settings.proxies:
                self._touch_redirects()
            return
        for subject in self._subjects.values():
            for direction in DIRECTIONS:
                handles = subject.terms[direction].keys() - {ANY_PEER}
                subject.touch_all(direction, chain(*map(self.selectors.matched, handles)))
            self._dirty_defaults(subject)

    def _compile_redirects(self) -> None:
        """What a rule that redirects says depends on which protocols there are."""
        for compiled in [c for c in self._rules.values() if c.rule.l7 is not None]:
            self._remove_rule(compiled.cookie)
            cookie = self._add_rule(compiled.key, compiled.rule)
            self._of_object[compiled.key][compiled.rule] = cookie

    def _touch_redirects(self) -> None:
        for subject in self._subjects.values():
            for direction in DIRECTIONS:
                if subject.ways[direction]:
                    subject.touch_all(direction)

    # Rules

    def set_rules(self, key: ObjectKey, rules: Iterable[Rule]) -> RuleChange:
        """Make ``rules`` the rules of one object; equal ones are not touched."""
        wanted = dict.fromkeys(rules)
        present = self._of_object.get(key, {})
        change = RuleChange()
        for rule in [r for r in present if r not in wanted]:
            change.removed[present[rule]] = rule
            self._remove_rule(present.pop(rule))
        for rule in wanted:
            if rule not in present:
                present[rule] = self._add_rule(key, rule)
                change.added[present[rule]] = rule
        if present:
            self._of_object[key] = present
        else:
            self._of_object.pop(key, None)
        return change

    def rules(self) -> list[tuple[int, ObjectKey, Rule]]:
        """Cookie, object and rule of everything in force."""
        return [(c.cookie, c.key, c.rule) for c in self._rules.values()]

    def rule(self, cookie: int) -> Rule | None:
        """The rule behind a cookie; ``None`` for 0 (the default) and for numbers of the past."""
        found = self._rules.get(cookie)
        return found.rule if found else None

    def selector_users(self, *, subjects: bool = False) -> dict[int, set[ObjectKey]]:
        """Objects that use each selector, by its handle; with ``subjects`` as a subject alone."""
        found: dict[int, set[ObjectKey]] = {}
        for compiled in self._rules.values():
            peers = [] if subjects else [h for _, handles in compiled.terms for h in handles or ()]
            for handle in (compiled.subject, *peers):
                found.setdefault(handle, set()).add(compiled.key)
        return found

    def _add_rule(self, key: ObjectKey, rule: Rule) -> int:
        cookie = self._cookies.take(f"{rule.origin} {rule.direction}")
        terms: list[tuple[Term, tuple[int, ...] | None]] = []
        for term in compile_rule(rule, cookie, self.settings.redirects):
            peers = None
            if term.peers is not None:
                peers = tuple(self.selectors.acquire(p) for p in term.peers)
            terms.append((term, peers))
        subject = self.selectors.acquire(rule.subject)
        compiled = Compiled(key, rule, cookie, subject, terms)
        self._rules[cookie] = compiled
        self._by_subject_handle[subject].add(cookie)
        for identity in self.selectors.matched(subject) & self._subjects.keys():
            self._link(identity, compiled)
        return cookie

    def _remove_rule(self, cookie: int) -> None:
        compiled = self._rules.pop(cookie)
        for identity in self.selectors.matched(compiled.subject) & self._subjects.keys():
            self._unlink(identity, compiled)
        self._by_subject_handle[compiled.subject].discard(cookie)
        if not self._by_subject_handle[compiled.subject]:
            del self._by_subject_handle[compiled.subject]
        for _, handles in compiled.terms:
            for handle in handles or ():
                self.selectors.release(handle)
        self.selectors.release(compiled.subject)
        self._cookies.give_back(cookie)

    # Identities

    def upsert_identity(
        self, identity: int, labels: LabelSet, prefixes: Iterable[Prefix] = ()
    ) -> None:
        """An identity exists with these labels and stands for these prefixes, if any."""
        prefixes = tuple(prefixes)
        if self.selectors.same_identity(identity, labels, prefixes):
            return
        self.remove_identity(identity)
        self._touch(identity, self.selectors.add_identity(identity, labels, prefixes))
        self._relink(identity)

    def remove_identity(self, identity: int) -> None:
        """An identity is gone. As a subject it keeps its default, without any rule."""
        if identity in self.selectors:
            self._touch(identity, self.selectors.remove_identity(identity))
            self._relink(identity)

    def _touch(self, identity: int, handles: Iterable[int]) -> None:
        for handle in handles:
            for subject, direction in self._users.get(handle, ()):
                self._subjects[subject].dirty[direction].add(identity)

    # Subjects

    def set_subject(self, identity: int, pods: Iterable[Iterable[NamedPort]] = ()) -> None:
        """An identity has endpoints here, with these named ports (one list per endpoint)."""
        ports = named_ports(pods)
        subject = self._subjects.get(identity)
        if subject is None:
            self._subjects[identity] = Subject.succeeding(self._gone.pop(identity, None), ports)
            self._relink(identity)
        elif subject.ports != ports:
            subject.ports = ports
            for peer in self._peers_with_names(subject, INGRESS):
                subject.dirty[INGRESS].add(peer)

    def remove_subject(self, identity: int) -> None:
        """The last endpoint of an identity is gone."""
        subject = self._subjects.get(identity)
        if subject is None:
            return
        for cookie in list(subject.rules):
            self._unlink(identity, self._rules[cookie])
        del self._subjects[identity]
        self._gone[identity] = subject

    def subjects(self) -> list[int]:
        """Identities with endpoints here."""
        return list(self._subjects)

    def set_peer_ports(self, identity: int, pods: Iterable[Iterable[NamedPort]]) -> None:
        """Named ports of the pods behind an identity, anywhere in the cluster, for egress."""
        ports = named_ports(pods)
        if self._peer_ports.get(identity, NO_PORTS) == ports:
            return
        if ports == NO_PORTS:
            del self._peer_ports[identity]
        else:
            self._peer_ports[identity] = ports
        for handle in self.selectors.handles_of(identity):
            for subject, direction in self._users.get(handle, ()):
                if direction == EGRESS:
                    self._subjects[subject].dirty[EGRESS].add(identity)

    def entries(self, identity: int) -> Entries:
        """Entries of a subject as of the last flush; empty for others."""
        subject = self._subjects.get(identity)
        return subject.entries if subject else {}

    def l7(self, identity: int) -> Mapping[Place, tuple[Seen, ...]]:
        """What proxies must know of a subject, by direction and peer, as of the last flush."""
        subject = self._subjects.get(identity)
        return subject.l7 if subject else {}

    def enforced(self, identity: int) -> tuple[bool, bool]:
        """Whether ingress and egress of a subject are default-deny."""
        subject = self._subjects.get(identity)
        if subject is None:
            return False, False
        return self._enforced(identity, subject, INGRESS), self._enforced(identity, subject, EGRESS)

    def _relink(self, identity: int) -> None:
        """Bring the rules of a subject in line with its labels."""
        subject = self._subjects.get(identity)
        if subject is None:
            return
        wanted: set[int] = set()
        for handle in self.selectors.handles_of(identity):
            wanted |= self._by_subject_handle.get(handle, set())
        for cookie in subject.rules - wanted:
            self._unlink(identity, self._rules[cookie])
        for cookie in wanted - subject.rules:
            self._link(identity, self._rules[cookie])
        self._dirty_defaults(subject)

    def _link(self, identity: int, compiled: Compiled) -> None:
        subject = self._subjects[identity]
        subject.rules.add(compiled.cookie)
        for term, handles in compiled.terms:
            dirty = subject.dirty[term.direction]
            terms = subject.terms[term.direction]
            for handle in (ANY_PEER,) if handles is None else handles:
                if handle not in terms:
                    terms[handle] = {}
                    if handle:
                        self._users[handle].add((identity, term.direction))
                terms[handle][term] = None
                dirty |= self.selectors.matched(handle) if handle else {ANY_PEER}
            subject.selective[term.direction] += term.is_selective
            subject.count_ways(term, 1)
        if compiled.rule.default_deny:
            self._enforce(subject, directions(compiled.rule.direction), 1)
        self._dirty_defaults(subject)

    def _unlink(self, identity: int, compiled: Compiled) -> None:
        subject = self._subjects[identity]
        subject.rules.discard(compiled.cookie)
        for term, handles in compiled.terms:
            dirty = subject.dirty[term.direction]
            terms = subject.terms[term.direction]
            for handle in (ANY_PEER,) if handles is None else handles:
                terms[handle].pop(term, None)
                if not terms[handle]:
                    del terms[handle]
                    if handle:
                        self._forget_user(handle, identity, term.direction)
                dirty |= self.selectors.matched(handle) if handle else {ANY_PEER}
            subject.selective[term.direction] -= term.is_selective
            subject.count_ways(term, -1)
        if compiled.rule.default_deny:
            self._enforce(subject, directions(compiled.rule.direction), -1)
        self._dirty_defaults(subject)

    def _forget_user(self, handle: int, identity: int, direction: int) -> None:
        users = self._users[handle]
        users.discard((identity, direction))
        if not users:
            del self._users[handle]

    def _enforce(self, subject: Subject, direction: int, step: int) -> None:
        """Count a rule that asks for default deny; with the first one the baseline ends."""
        before = bool(subject.enforcing[direction])
        subject.enforcing[direction] += step
        if before == bool(subject.enforcing[direction]):
            return
        for handle, terms in subject.terms[direction].items():
            if any(term.is_baseline for term in terms):
                met = self.selectors.matched(handle) if handle else {ANY_PEER}
                subject.dirty[direction].update(met)

    @staticmethod
    def _dirty_defaults(subject: Subject) -> None:
        subject.dirty[INGRESS].update((ANY_PEER, int(Reserved.HOST)))
        subject.dirty[EGRESS].add(ANY_PEER)

    def _peers_with_names(self, subject: Subject, direction: int) -> set[int]:
        peers: set[int] = set()
        for handle, terms in subject.terms[direction].items():
            if any(term.names for term in terms):
                peers |= self.selectors.matched(handle) if handle else {ANY_PEER}
        return peers

    # Computing

    def flush(self, *, first: int = 0, most: int = 0) -> dict[int, Delta]:
        """Recompute what was touched; how each subject changed, the unchanged ones left out.

        ``first`` names a subject to begin with. With ``most`` it stops behind the subject that
        brings the number of decisions there; :attr:`pending` tells whether more is to do.
        """
        deltas = {identity: Delta(gone=True) for identity in self._gone}
        self._gone.clear()
        done = self.peers_computed
        touched = [i for i, s in self._subjects.items() if s.is_touched()]
        for identity in sorted(touched, key=lambda i: i != first):
            subject = self._subjects[identity]
            delta = self._recompute(identity, subject)
            if subject.fresh or delta:
                deltas[identity] = delta
            subject.fresh = False
            if most and self.peers_computed - done >= most:
                break
        return deltas

    @property
    def pending(self) -> bool:
        """Whether a flush has something to do."""
        return bool(self._gone) or any(s.is_touched() for s in self._subjects.values())

    def _recompute(self, identity: int, subject: Subject) -> Delta:
        delta: Changing = ({}, {}, {})
        for direction in DIRECTIONS:
            dirty = subject.dirty[direction]
            if not dirty:
                continue
            if ANY_PEER in dirty:
                dirty |= subject.whole[direction]
            decider = self._decider(identity, subject, direction)
            for peer in dirty:
                subject.replace((direction, peer), decider.decide(peer), delta)
            self.peers_computed += len(dirty)
            dirty.clear()
        return Delta(*delta)

    def _decider(self, identity: int, subject: Subject, direction: int) -> Decider:
        return Decider(
            self.settings,
            self.selectors,
            self._peer_ports,
            subject,
            direction,
            enforced=self._enforced(identity, subject, direction),
        )

    def _enforced(self, identity: int, subject: Subject, direction: int) -> bool:
        if self.settings.mode != "default":
            return self.settings.mode == "always"
        if subject.enforcing[direction]:
            return True
        labels = self.selectors.labels(identity)
        # Who nobody can name yet (no labels known, or reserved:init) gets nothing by default.
        return labels is None or labels.get(RESERVED, "init") is not None
