"""``policy.trace``: the verdict on a packet between two ends, and every rule that has a say.

Egress is asked of who sends, ingress of who receives, wherever they live: the agent that is asked
computes both. For ends of this node what the kernel holds is compared with what it should.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.errors import ApiError
from axoneme.core.live_options import HOST
from axoneme.core.model.identity import LOCAL_SCOPE, MIN_CLUSTER, Reserved
from axoneme.plugins.policy.audit import AuditMode
from axoneme.plugins.policy.decode.ports import ICMP_TYPES, ICMPV6_TYPES
from axoneme.plugins.policy.ends import IDENTITY, POD, UNMET, End, Ends
from axoneme.plugins.policy.entries import EGRESS, INGRESS, lookup
from axoneme.plugins.policy.explain import (
    ALLOWED,
    DENIED,
    DIRECTIONS,
    REDIRECTED,
    Answer,
    Packet,
    explain,
    verdict_of,
)
from axoneme.plugins.policy.l4 import ICMP, ICMPV6, PROTOCOL_NAMES, PROTOCOLS, WITH_PORTS
from axoneme.plugins.policy.origins import Origins

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.plugins.policy.manager import PolicyManager

AUDIT: Final = "audit"
_ORDER: Final = (ALLOWED, REDIRECTED, AUDIT, DENIED)


class Tracer:
    """Answers questions about packets, from one agent's tables and engine."""

    def __init__(self, agent: Agent, manager: PolicyManager) -> None:
        self._agent = agent
        self._manager = manager
        self._origins = Origins(agent.store)
        self.ends = Ends(agent, manager)

    async def trace(self, params: dict[str, Any]) -> dict[str, Any]:
        """``policy.trace``: ``from``, ``to``; ``port`` (``80/TCP``) or ``icmp``; ``family``.

        Families with the same answer are told once; other answers stand in ``others``.
        """
        source, target = _text(params, "from"), _text(params, "to")
        answers: list[dict[str, Any]] = []
        for family in self._families(params, source, target):
            one = await self._one(source, target, family, params)
            same = next((a for a in answers if _essence(a) == _essence(one)), None)
            if same is None:
                answers.append(one)
            else:
                same["families"].append(family)
        first, *others = answers
        return {
            "node": self._agent.node_name,
            "revision": self._manager.revision,
            **first,
            "others": others,
        }

    def _families(self, params: dict[str, Any], source: str, target: str) -> list[int]:
        wanted = params.get("family")
        if wanted not in (None, 4, 6):
            raise ApiError("family must be 4 or 6", code="bad-request")
        families = [f for f in self.ends.families if wanted in (None, f)]
        for text in (source, target):
            ends = {f: self.ends.find(text, f) for f in families}
            families = [f for f, e in ends.items() if not e.addresses or e.address(f)]
        if not families:
            raise ApiError(
                f"{source} and {target} have no address family in common", code="bad-request"
            )
        return families

    async def _one(
        self, source_text: str, target_text: str, family: int, params: dict[str, Any]
    ) -> dict[str, Any]:
        source, target = (self.ends.find(t, family) for t in (source_text, target_text))
        packet = packet_of(params, family, source, target)
        egress = await self.side(source, target, EGRESS, packet)
        ingress = await self.side(target, source, INGRESS, packet)
        if source.kind == POD and (source.name, source.node) == (target.name, target.node):
            for side in (egress, ingress):
                side |= {"verdict": ALLOWED, "reason": "a pod's traffic to itself never leaves it"}
        worst = max((egress["verdict"], ingress["verdict"]), key=_ORDER.index)
        return {
            "verdict": worst,
            "from": source.as_dict(),
            "to": target.as_dict(),
            "protocol": PROTOCOL_NAMES.get(packet.protocol, str(packet.protocol)),
            "port": packet.port,
            "families": [family],
            "egress": egress,
            "ingress": ingress,
        }

    async def side(self, own: End, peer: End, direction: int, packet: Packet) -> dict[str, Any]:
        """What the policy of ``own`` says, in one direction."""
        peer = self.ends.seen_from(peer, own.node)
        own = self.ends.seen_from(own, own.node)
        if not self._is_subject(own):
            reason = f"{own.name} is no endpoint: nothing is enforced"
            return _nothing(peer, reason)
        engine = self._manager.engine
        answer = explain(
            engine.rules(),
            engine.settings,
            self.ends.subject(own),
            self.ends.peer(peer),
            direction,
            packet,
        )
        realised = await self._realised(own, peer, direction, packet, answer)
        return await self._view(own, peer, answer, realised)

    def _is_subject(self, end: End) -> bool:
        if end.kind == POD or end.identity in self._manager.engine.subjects():
            return True
        return end.kind == IDENTITY and MIN_CLUSTER <= end.identity < LOCAL_SCOPE

    async def _view(
        self, own: End, peer: End, answer: Answer, realised: dict[str, Any] | None
    ) -> dict[str, Any]:
        shown = [*answer.matching, *answer.enforced_by]
        places = await asyncio.to_thread(self._origins.places, {m.rule.origin for m in shown})
        views = [self._origins.view(m, places) for m in shown]
        matching = views[: len(answer.matching)]
        closing = views[len(answer.matching) :]
        audit = answer.verdict == DENIED and self._audits(own)
        return {
            "verdict": AUDIT if audit else answer.verdict,
            "subject": own.as_dict(),
            "peer": peer.as_dict(),
            "enforced": answer.enforced,
            "reason": answer.reason,
            "deciding": next((v for v in matching if v["standing"] == "decides"), None),
            "matching": matching,
            "enforced_by": closing,
            "consistent": answer.consistent,
            "realised": realised,
        }

    def _audits(self, own: End) -> bool:
        """Whether what is denied to or from ``own`` is only told."""
        found = self._agent.services.find(AuditMode)
        where = HOST if own.identity == Reserved.HOST else own.endpoint
        return found is not None and found.audits(where)

    async def _realised(
        self, own: End, peer: End, direction: int, packet: Packet, answer: Answer
    ) -> dict[str, Any] | None:
        """What the kernel would say, for a subject of this node."""
        row = self._manager.tables.entries.get(own.identity)
        if row is None or own.node not in ("", self._agent.node_name):
            return None
        state = {"revision": row.revision, "locked": self._locked(own.identity)}
        entries = await asyncio.to_thread(self._manager.maps.read, own.identity)
        if entries is None:
            message = "no policy is loaded: everything drops"
            return {
                **state,
                "verdict": DENIED,
                "same": answer.verdict == DENIED,
                "message": message,
            }
        known = peer.identity in self._manager.engine.selectors
        if peer.identity == UNMET:  # nobody has that address yet: no entry can be there
            return None
        found = lookup(entries, peer.identity, direction, packet.protocol, packet.port, known=known)
        verdict = verdict_of(found)
        same = verdict == answer.verdict
        message = "" if same and not state["locked"] else self._why_not(own.identity)
        return {**state, "verdict": verdict, "same": same, "message": message}

    def _locked(self, identity: int) -> bool:
        row = self._manager.tables.entries.get(identity)
        return bool(row and row.overflow) or identity in self._manager.maps.overflowed

    def _why_not(self, identity: int) -> str:
        """Why the kernel has something else."""
        if self._locked(identity):
            return "more entries than bpf-policy-map-max: everything drops"
        error = self._manager.reconciler.errors.get(identity)
        if error is not None:
            return f"not programmed: {error}"
        return "the kernel's entries differ: not programmed yet"


def packet_of(params: dict[str, Any], family: int, source: End, target: End) -> Packet:
    """Protocol and port: ``80``, ``80/TCP``, ``http/TCP``, or an ICMP type."""
    icmp, port = params.get("icmp"), params.get("port")
    if (icmp is None) == (port is None):
        raise ApiError("give port or icmp, one of the two", code="bad-request")
    if icmp is not None:
        return Packet(ICMP if family == 4 else ICMPV6, _icmp_type(str(icmp), family))
    name, _, word = str(port).partition("/")
    protocol = PROTOCOLS.get(word.upper() or "TCP", 0)
    if not protocol:
        raise ApiError(f"{word!r} is no protocol", code="bad-request", hint="80/TCP, 53/UDP")
    if name.isascii() and name.isdigit():
        if not 0 <= int(name) <= 65535:
            raise ApiError(f"port {name} is outside 0-65535", code="bad-request")
        return Packet(protocol, int(name))
    return Packet(protocol, _named(name, protocol, target))


def _named(name: str, protocol: int, target: End) -> int:
    meant = {
        p.port
        for p in target.ports
        if p.name == name and PROTOCOLS.get(p.protocol.upper()) == protocol in WITH_PORTS
    }
    if len(meant) != 1:
        listed = ", ".join(f"{p.name} {p.port}/{p.protocol}" for p in target.ports) or "none"
        raise ApiError(
            f"{target.name} has no port {name!r} of {PROTOCOL_NAMES[protocol]}",
            code="not-found",
            hint=f"its named ports: {listed}",
        )
    return meant.pop()


def _icmp_type(text: str, family: int) -> int:
    types = ICMP_TYPES if family == 4 else ICMPV6_TYPES
    if text in types:
        return types[text]
    if text in ("echo", "ping"):
        return types["EchoRequest"]
    if text.isascii() and text.isdigit() and int(text) <= 255:
        return int(text)
    raise ApiError(
        f"{text!r} is no type of {'ICMP' if family == 4 else 'ICMPv6'}",
        code="bad-request",
        hint="a number, or a name such as EchoRequest",
    )


def _nothing(peer: End, reason: str) -> dict[str, Any]:
    return {
        "verdict": ALLOWED,
        "subject": None,
        "peer": peer.as_dict(),
        "enforced": False,
        "reason": reason,
        "deciding": None,
        "matching": [],
        "enforced_by": [],
        "consistent": True,
        "realised": None,
    }


def _essence(answer: dict[str, Any]) -> Any:
    """What makes answers of two families the same."""
    ends = [(answer[w]["name"], answer[w]["identity"]) for w in ("from", "to")]
    return ends, answer["port"], [_judged(answer[w]) for w in DIRECTIONS.values()]


def _judged(side: dict[str, Any]) -> Any:
    cookies = [m["cookie"] for m in side["matching"]]
    return side["verdict"], side["reason"], cookies, side["peer"]["identity"], side["realised"]


def _text(params: dict[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 512:
        raise ApiError(f"{name} must be text", code="bad-request")
    return value
