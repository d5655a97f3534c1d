"""The verdict: tiers in order, deny before allow in one place, then the default.

Sources: reference 2.3; https://docs.cilium.io/en/stable/security/policy/intro/ (enforcement modes, rule basics);
https://network-policy-api.sigs.k8s.io/ (tiers). Every answer names the rule that decided.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from .cluster import Cluster, Node, Outside, Pod
from .kinds import ADMIN, BASELINE, NORMAL, Manifest, Match, Packet, Question, read

WILDCARD = frozenset({"*"})


@attrs.frozen
class Answer:
    """What happens to a packet on one side of its way.

    ``why`` tells what decided when no rule did: unselected, default-deny, mode, localhost, or no-policy (the
    subject is not a pod). ``matches`` are all rules that speak of the packet, in the order of their tiers.
    """

    verdict: str
    decided_by: Match | None = None
    matches: tuple[Match, ...] = ()
    patterns: frozenset[str] = frozenset()
    why: str = "rule"


@attrs.frozen
class Connection:
    """Both sides of a connection; it comes about when neither denies."""

    egress: Answer
    ingress: Answer

    @property
    def verdict(self) -> str:
        for answer in (self.egress, self.ingress):
            if answer.verdict == "deny":
                return "deny"
        return "redirect" if "redirect" in (self.egress.verdict, self.ingress.verdict) else "allow"


def connection(cluster: Cluster, manifests: Sequence[Manifest], packet: Packet) -> Connection:
    """Egress at the source and ingress at the destination."""
    return Connection(
        evaluate(cluster, manifests, packet, "egress"),
        evaluate(cluster, manifests, packet, "ingress"),
    )


def evaluate(
    cluster: Cluster, manifests: Sequence[Manifest], packet: Packet, direction: str
) -> Answer:
    """One side: the source's egress or the destination's ingress. Only pods are subject to policy here."""
    ends = (packet.source, packet.destination)
    own, other = ends if direction == "egress" else ends[::-1]
    subject, peer = cluster.who(own), cluster.who(other)
    settings = cluster.settings
    if not isinstance(subject, Pod):
        return Answer("allow", why="no-policy")
    if settings.enable_policy == "never":
        return Answer("allow", why="mode")
    if direction == "ingress" and _localhost(cluster, subject, peer):
        return Answer("allow", why="localhost")
    question = Question(cluster, subject, peer, other, direction, packet)
    readings = [reading for manifest in manifests for reading in read(manifest, question)]
    matches = sorted(
        (match for reading in readings for match in reading.matches),
        key=lambda m: (m.tier, m.place, m.policy, m.path),
    )
    # A policy that denies by default makes a final decision: what it leaves out never reaches the baseline.
    by_policy = any(reading.enforces for reading in readings)
    always = settings.enable_policy == "always" or subject.reserved == "init"
    return _decide(matches, by_policy=by_policy, always=always)


def _localhost(cluster: Cluster, subject: Pod, peer: Pod | Node | Outside) -> bool:
    own_node = isinstance(peer, Node) and peer.name == subject.node
    return own_node and cluster.settings.allow_localhost != "policy"


def _decide(matches: list[Match], *, by_policy: bool, always: bool) -> Answer:
    for tier in (ADMIN, NORMAL, BASELINE):
        answer = _decide_tier([match for match in matches if match.tier == tier])
        if answer is not None:
            return attrs.evolve(answer, matches=tuple(matches))
        if tier == NORMAL and by_policy:
            return Answer("deny", matches=tuple(matches), why="default-deny")
    if always:
        return Answer("deny", matches=tuple(matches), why="default-deny")
    return Answer("allow", matches=tuple(matches), why="unselected")


def _decide_tier(matches: list[Match]) -> Answer | None:
    """The verdict of a tier's first place; None when the tier has nothing to say, or passes."""
    if not matches:
        return None
    first = [match for match in matches if match.place == matches[0].place]
    for action in ("deny", "redirect", "allow"):
        chosen = [match for match in first if match.action == action]
        if not chosen:
            continue
        patterns: frozenset[str] = frozenset()
        if action == "redirect":
            plain = any(match.action == "allow" for match in first)
            patterns = (
                WILDCARD if plain else frozenset().union(*(match.patterns for match in chosen))
            )
        return Answer(action, chosen[0], patterns=patterns)
    return None
