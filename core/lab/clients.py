"""Clients outside of the cluster: network namespaces on the underlay, with nothing of ours in them.

A client has the underlay's network on its link and the world as its router, so it reaches nodes and
whatever addresses in that network somebody answers ARP and neighbour discovery for. Routes to other
networks go by a node of one's choice.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from axoneme.core.errors import LabError
from axoneme.core.lab import netns, processes, underlay
from axoneme.core.lab.model import IPAddress, Lab
from axoneme.core.lab.paths import UNDERLAY
from axoneme.core.lab.shell import ip_batch

FIRST: Final = 210
LAST: Final = 250
"""Last parts of clients' addresses; nodes have those below."""
_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,7}")


def place_of(name: str) -> str:
    """What a client's namespace is called within the lab."""
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is no name for a client", hint="up to 8 small letters and digits")
    return f"client-{name}"


def names(lab: Lab) -> list[str]:
    """The clients that are there."""
    prefix = lab.paths.netns_name("client-")
    return sorted(n.removeprefix(prefix) for n in netns.names() if n.startswith(prefix))


def addresses(lab: Lab, name: str) -> tuple[IPAddress, ...]:
    """Both addresses of a client; ``LabError`` if it is not there."""
    for number in range(FIRST, LAST + 1):
        if _mark(lab, number).exists() and _mark(lab, number).read_text() == name:
            return underlay.NETWORK4[number], underlay.NETWORK6[number]
    raise LabError(f"there is no client {name}", hint=f"axoneme lab client {name}")


def _mark(lab: Lab, number: int) -> Path:
    return lab.paths.root / "clients" / str(number)


def ensure(lab: Lab, name: str) -> tuple[IPAddress, ...]:
    """Make a client unless it is there; its addresses."""
    place = place_of(name)
    if lab.paths.netns(place).exists():
        return addresses(lab, name)
    free = [n for n in range(FIRST, LAST + 1) if not _mark(lab, n).exists()]
    if not free:
        raise LabError(f"a lab has {LAST - FIRST + 1} clients at most")
    mark = _mark(lab, free[0])
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(name)
    space, port = lab.paths.netns_name(place), f"c-{name}"
    netns.create([space])
    netns.write_sysctls(lab.paths.netns(place), underlay.EVERYWHERE)
    ip_batch(
        [
            f"link add {port} type veth peer name eth0 netns {space}",
            f"link set {port} master br0 up",
        ],
        netns=lab.paths.netns_name(UNDERLAY),
    )
    own4, own6 = underlay.NETWORK4[free[0]], underlay.NETWORK6[free[0]]
    ip_batch(
        [
            "link set lo up",
            f"addr add {own4}/{underlay.NETWORK4.prefixlen} dev eth0",
            f"addr add {own6}/{underlay.NETWORK6.prefixlen} dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {underlay.GATEWAY4}",
            f"route add default via {underlay.GATEWAY6}",
        ],
        netns=space,
    )
    return own4, own6


def route(lab: Lab, name: str, network: str, node: str) -> None:
    """Send a network's packets by a node."""
    try:
        version = ip_network(network).version
    except ValueError:
        raise LabError(f"--route {network!r} is no network") from None
    via = next(a for a in lab.node(node).addresses if a.version == version)
    ip_batch([f"route replace {network} via {via}"], netns=lab.paths.netns_name(place_of(name)))


def delete(lab: Lab, name: str) -> None:
    """Remove a client with its processes."""
    place = place_of(name)
    space = lab.paths.netns_name(place)
    addresses(lab, name)
    processes.kill_all(processes.inside(lab.paths, lambda n: n == space))
    netns.delete([space])
    for number in range(FIRST, LAST + 1):
        mark = _mark(lab, number)
        if mark.exists() and mark.read_text() == name:
            mark.unlink()
