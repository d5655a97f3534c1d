"""What the proxy needs of routing: packets with its mark are this node's."""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from axoneme.core.errors import AxonemeError
from axoneme.core.model.network import NetworkState, Route
from axoneme.core.netlink.rules import ensure_mark_rule
from axoneme.core.netlink.wire import NetlinkSocket

if TYPE_CHECKING:
    from axoneme.core.agent import Agent

log = logging.getLogger(__name__)

TABLE: Final = 2004
MARK: Final = 0x200
MASK: Final = 0xF00
PRIORITY: Final = 9
LOOK_SECONDS: Final = 30.0


def versions(agent: Agent) -> list[int]:
    """The IP versions that are on."""
    return [v for v, on in ((4, agent.ipv4), (6, agent.ipv6)) if on]


def describe(state: NetworkState, agent: Agent) -> None:
    """Everything is local in the proxy's table."""
    for version in versions(agent):
        everything = ip_network("0.0.0.0/0" if version == 4 else "::/0")
        state.routes.add(Route(everything, link="lo", table=TABLE, kind="local"))


async def keep_rules(agent: Agent) -> None:
    """Have the rules that lead there, for ever: somebody may remove them."""
    while True:
        try:
            await asyncio.to_thread(_ensure, versions(agent))
        except AxonemeError as error:
            log.warning("rule of the proxy missing", extra={"error": str(error)})
        await asyncio.sleep(LOOK_SECONDS)


def _ensure(families: list[int]) -> None:
    with NetlinkSocket() as netlink:
        for version in families:
            ensure_mark_rule(netlink, version, mark=MARK, mask=MASK, table=TABLE, priority=PRIORITY)
