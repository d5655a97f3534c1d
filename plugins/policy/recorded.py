"""``policy.explain``: why a packet that is over was refused, and what policy says of it now.

What the kernel recorded is taken as it is: identities, addresses, port, and the cookie of the entry
that decided. Then policy is asked about the same packet as it stands now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from axoneme.core.errors import ApiError
from axoneme.core.events.model import EGRESS as OUT
from axoneme.core.events.model import Event, IPAddress
from axoneme.core.state.registry import plain
from axoneme.plugins.policy.ends import ADDRESS, POD, End
from axoneme.plugins.policy.entries import EGRESS, INGRESS
from axoneme.plugins.policy.explain import Packet
from axoneme.plugins.policy.history import RuleHistory
from axoneme.plugins.policy.l4 import ICMP, ICMPV6
from axoneme.plugins.policy.trace import Tracer

if TYPE_CHECKING:
    from axoneme.core.agent import Agent

POLICY_DENIED: Final = "Policy denied"
"""How the words of both reasons begin: no rule allows it, and a rule denies it."""


class Recorded:
    """Explains events of one agent."""

    def __init__(self, agent: Agent, tracer: Tracer, history: RuleHistory) -> None:
        self._agent = agent
        self._tracer = tracer
        self._history = history

    async def explain(self, params: dict[str, Any]) -> dict[str, Any]:
        """``policy.explain``: the event ``id`` with the rule behind it, then and now."""
        id = params.get("id")
        if not isinstance(id, str) or not 0 < len(id) <= 32:
            raise ApiError("id must be text", code="bad-request")
        event = self._agent.events.recent.find(id)
        if event is None:
            raise ApiError(
                f"no event {id!r} is kept on this node",
                code="not-found",
                hint="axoneme monitor --recent lists them; key policy-events-buffer",
            )
        described = self._agent.events.names.describe(event)
        answer: dict[str, Any] = {"event": described, "then": self._then(event), "now": None}
        if event.source is not None and event.destination is not None:
            answer["now"] = await self._now(event, event.source, event.destination)
        return answer

    def _then(self, event: Event) -> dict[str, Any]:
        """What decided at that time."""
        judged = event.allowed is not None or event.text.startswith(POLICY_DENIED)
        if not judged:
            text = f"dropped for another reason than policy: {event.text}"
            return {"verdict": "dropped", "by-policy": False, "reason": text, "rule": None}
        verdict = "allowed" if event.allowed else "denied"
        if not event.cookie:
            text = "nothing was enforced" if event.allowed else "no rule allowed it"
            return {"verdict": verdict, "by-policy": True, "reason": text, "rule": None}
        version = self._history.at(event.cookie, event.time)
        if version is None:
            text = f"rule {event.cookie}, which is not remembered any more"
            return {"verdict": verdict, "by-policy": True, "reason": text, "rule": None}
        rule = plain(version.row) | {"since": version.since, "until": version.until}
        text = f"{version.row.verdict} by {version.row.origin}"
        return {"verdict": verdict, "by-policy": True, "reason": text, "rule": rule}

    async def _now(self, event: Event, source: IPAddress, destination: IPAddress) -> dict[str, Any]:
        """What policy says of the same packet now."""
        out = event.direction == OUT
        sender = self._end(source, event.source_identity, event.source_endpoint)
        receiver = self._end(destination, event.destination_identity, event.destination_endpoint)
        own, peer = (sender, receiver) if out else (receiver, sender)
        icmp = event.protocol in (ICMP, ICMPV6)
        packet = Packet(event.protocol, event.tcp_flags if icmp else event.destination_port)
        return await self._tracer.side(own, peer, EGRESS if out else INGRESS, packet)

    def _end(self, address: IPAddress, identity: int, endpoint: int) -> End:
        """An end with the identity that was recorded, whoever has its address now."""
        found = self._tracer.ends.of_address(address)
        if found.identity == identity:
            return found
        labels = self._tracer.ends.labels(identity)
        kind = POD if endpoint else ADDRESS
        node = self._agent.node_name if endpoint else ""
        return evolve(found, kind=kind, identity=identity, labels=labels, node=node)
