"""The other side of each comparison: the same namespaces joined by the kernel alone.

    axob-a ── axob-n1 ══ axob-sw (bridge) ══ axob-n2 ── axob-c
    axob-b ──┘

``axob-a`` and ``axob-b`` are pods of node 1, ``axob-c`` is a pod of node 2. Nodes route between
them, over the bridge or over a plain vxlan device. Nothing of Axoneme is involved.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PREFIX = "axob-"
NAMES = ("a", "b", "c", "n1", "n2", "sw")

SYSCTLS = {
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.ip_local_port_range": "1024 65000",
}
"""For clients on both sides: without them CRR measures the exhaustion of ports."""


def run(*command: str) -> str:
    """Run a command, return its output; the error carries what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def inside(namespace: str, *command: str) -> list[str]:
    """The command line that runs ``command`` in a network namespace."""
    return ["ip", "netns", "exec", namespace, *command]


def tune(namespace: str) -> None:
    """Give a client's namespace the sysctls of the comparison."""
    for name, value in SYSCTLS.items():
        run(*inside(namespace, "sysctl", "-qw", f"{name}={value}"))


def remove() -> None:
    """Take the plain topology away, whatever is left of it."""
    for name in NAMES:
        with suppress(RuntimeError):
            run("ip", "netns", "del", PREFIX + name)


def _wire(one: str, one_if: str, other: str, other_if: str) -> None:
    run(
        *("ip", "link", "add", one_if, "netns", PREFIX + one, "type", "veth"),
        *("peer", "name", other_if, "netns", PREFIX + other),
    )
    run("ip", "-n", PREFIX + one, "link", "set", one_if, "up")
    run("ip", "-n", PREFIX + other, "link", "set", other_if, "up")


def _pod(pod: str, node: str, address: str, gateway: str, mtu: int) -> None:
    _wire(pod, "eth0", node, f"to-{pod}")
    run("ip", "-n", PREFIX + pod, "link", "set", "eth0", "mtu", str(mtu))
    run("ip", "-n", PREFIX + pod, "addr", "add", f"{address}/32", "dev", "eth0")
    run("ip", "-n", PREFIX + pod, "route", "add", gateway, "dev", "eth0")
    run("ip", "-n", PREFIX + pod, "route", "add", "default", "via", gateway)
    run("ip", "-n", PREFIX + node, "addr", "add", f"{gateway}/32", "dev", f"to-{pod}")
    run("ip", "-n", PREFIX + node, "route", "add", address, "dev", f"to-{pod}")


def _vxlan(node: str, other_ip: str, other_pods: str, own: str) -> None:
    name = PREFIX + node
    run(
        *("ip", "-n", name, "link", "add", "vx0", "type", "vxlan", "id", "7"),
        *("dstport", "4789", "remote", other_ip, "dev", "eth0"),
    )
    run("ip", "-n", name, "addr", "add", own, "dev", "vx0")
    run("ip", "-n", name, "link", "set", "vx0", "up")
    via = "192.0.2.2" if node == "n1" else "192.0.2.1"
    run("ip", "-n", name, "route", "add", other_pods, "via", via)


@contextmanager
def plain(vxlan: bool = False) -> Iterator[dict[str, str]]:
    """Build the plain topology; yields pod name → address."""
    remove()
    mtu = 1450 if vxlan else 1500
    try:
        for name in NAMES:
            run("ip", "netns", "add", PREFIX + name)
            run("ip", "-n", PREFIX + name, "link", "set", "lo", "up")
        run("ip", "-n", PREFIX + "sw", "link", "add", "br0", "type", "bridge")
        run("ip", "-n", PREFIX + "sw", "link", "set", "br0", "up")
        for number, node in ((1, "n1"), (2, "n2")):
            _wire(node, "eth0", "sw", node)
            run("ip", "-n", PREFIX + "sw", "link", "set", node, "master", "br0")
            run("ip", "-n", PREFIX + node, "addr", "add", f"198.18.0.{number}/24", "dev", "eth0")
            run(*inside(PREFIX + node, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        _pod("a", "n1", "198.18.1.10", "198.18.1.1", mtu)
        _pod("b", "n1", "198.18.1.11", "198.18.1.1", mtu)
        _pod("c", "n2", "198.18.2.10", "198.18.2.1", mtu)
        if vxlan:
            _vxlan("n1", "198.18.0.2", "198.18.2.0/24", "192.0.2.1/30")
            _vxlan("n2", "198.18.0.1", "198.18.1.0/24", "192.0.2.2/30")
        else:
            run("ip", "-n", PREFIX + "n1", "route", "add", "198.18.2.0/24", "via", "198.18.0.2")
            run("ip", "-n", PREFIX + "n2", "route", "add", "198.18.1.0/24", "via", "198.18.0.1")
        tune(PREFIX + "a")
        yield {"a": "198.18.1.10", "b": "198.18.1.11", "c": "198.18.2.10"}
    finally:
        remove()
