"""What happened to a packet, decoded.

Numbers are Cilium's (``pkg/monitor/api``): types 1 drop, 4 trace, 5 policy verdict, 130 the
agent's own, 200 to 255 plugins'. Addresses, identities and endpoints stay numbers here;
:mod:`axoneme.core.events.names` puts names to them when somebody looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from attrs import Factory, frozen

IPAddress = IPv4Address | IPv6Address

FIRST_PLUGIN_TYPE: Final = 200
LAST_TYPE: Final = 255


class EventType(IntEnum):
    """Types of the core."""

    DROP = 1
    TRACE = 4
    VERDICT = 5
    AGENT = 130
    """Made in the agent, not by a packet."""


class AgentNotice(IntEnum):
    """What an agent event is about; numbers are Cilium's."""

    MESSAGE = 1
    STARTED = 2
    POLICY_UPDATED = 5
    POLICY_DELETED = 6


INGRESS: Final = "ingress"
EGRESS: Final = "egress"

CT_STATES: Final = {0: "new", 1: "established", 2: "reply", 3: "related", 5: "unknown"}
"""``AXO_CT_*``, with Cilium's trace reasons as names."""


@frozen
class Event:
    """One event. What an event has no word for is 0, ``""`` or ``None``."""

    type: int
    kind: str
    """The type in words: ``drop``, ``trace``, ``policy-verdict``, or a plugin's."""
    reason: int = 0
    """Drop and denied verdict: the drop reason; trace: the point; else the plugin's."""
    text: str = ""
    """The reason in words: ``Policy denied``, ``to-endpoint``; an allowed verdict has none."""
    time: float = 0.0
    """Seconds since 1970."""
    direction: str = ""
    """``ingress`` or ``egress``, as the endpoint sees it."""
    endpoint: int = 0
    """Id of the endpoint whose hook saw the packet."""
    source: IPAddress | None = None
    destination: IPAddress | None = None
    source_port: int = 0
    destination_port: int = 0
    protocol: int = 0
    """IPPROTO_*."""
    tcp_flags: int = 0
    """TCP flags, or the ICMP type."""
    icmp_code: int = 0
    source_identity: int = 0
    destination_identity: int = 0
    source_endpoint: int = 0
    """Id of a local sender."""
    destination_endpoint: int = 0
    """Id of a local receiver."""
    ifindex: int = 0
    length: int = 0
    """Bytes of the frame."""
    cookie: int = 0
    """Of the policy entry that decided; 0 if none did."""
    allowed: bool | None = None
    """Policy verdict only."""
    match: str = ""
    """Policy verdict: what kind of entry decided (``L3-L4``, ``none`` …)."""
    ct_state: str = ""
    data: Mapping[str, Any] = Factory(dict)
    """What a plugin's decoder adds; shown as it is."""
    id: str = ""
    """The kernel's time in hexadecimal digits: names the event on its node until it boots."""

    @property
    def dropped(self) -> bool:
        """Whether the packet ends here."""
        return self.type == EventType.DROP
