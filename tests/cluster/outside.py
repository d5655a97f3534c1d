"""A machine outside the cluster: a namespace on the network between the nodes, with a responder.

The namespace has the lab's own prefix, so that ``lab down`` takes it away, whatever happens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from axoneme.core.lab import netns, processes
from axoneme.core.lab.model import Lab
from axoneme.core.lab.paths import UNDERLAY, WORLD
from axoneme.core.lab.pods import RESPONDER
from axoneme.core.lab.shell import ip_batch
from axoneme.core.lab.targets import Place
from axoneme.core.lab.underlay import GATEWAY4, GATEWAY6, WORLD4, WORLD6

NAME = "outside"
IPV4 = IPv4Address("172.18.0.66")
IPV6 = IPv6Address("fd00:18::66")
PORTS = ((8080, "TCP"), (5353, "UDP"))


@contextlib.contextmanager
def machines(lab: Lab) -> Iterator[tuple[Place, Place]]:
    """The world, and one machine more; both know the way to the pods of each node."""
    path = lab.paths.netns(NAME)
    netns.create([path.name])
    try:
        _connect(lab, path)
        _routes(lab)
        log = lab.paths.root / "outside.log"
        words = [f"{protocol}:{port}" for port, protocol in PORTS]
        processes.spawn(path, ["/usr/bin/python3", "-ISE", str(RESPONDER), "{}", *words], log=log)
        outside = Place(NAME, "address", (IPV4, IPV6), path, ports=PORTS)
        ports = ((80, "TCP"), (443, "TCP"))
        world = Place(
            WORLD,
            "world",
            (WORLD4, WORLD6),
            lab.paths.netns(WORLD),
            ports=ports,
            senders=(GATEWAY4, GATEWAY6),
        )
        yield world, outside
    finally:
        processes.kill_all(processes.inside(lab.paths, path.name.__eq__))
        netns.delete([path.name])


def _connect(lab: Lab, path: Path) -> None:
    """Join the namespace to the bridge between the nodes."""
    netns.write_sysctls(path, {"net/ipv6/conf/default/accept_dad": "0"})
    ip_batch(
        [
            f"link add {NAME} type veth peer name eth0 netns {path.name}",
            f"link set {NAME} master br0 up",
        ],
        netns=lab.paths.netns_name(UNDERLAY),
    )
    ip_batch(
        [
            "link set lo up",
            f"addr add {IPV4}/24 dev eth0",
            f"addr add {IPV6}/64 dev eth0 nodad",
            "link set eth0 up",
        ],
        netns=path.name,
    )


def _routes(lab: Lab) -> None:
    """A route to each pod through its node, in both namespaces."""
    nodes = {node.name: node for node in lab.nodes}
    lines = [
        f"route replace {a} via {nodes[r.node].ipv4 if a.version == 4 else nodes[r.node].ipv6}"
        for r in lab.pods()
        for a in r.addresses
    ]
    for name in (NAME, WORLD):
        ip_batch(lines, netns=lab.paths.netns_name(name))
