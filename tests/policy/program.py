"""The third answer: the pods' real programs with the real maps, asked packet by packet.

Entries come to the kernel as in an agent, by the same target. Each question is a packet of its own
flow, run through ``from_container`` (the subject sends) or ``to_container`` (it receives); nobody
but the subject is on the node, so only its own policy speaks.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from pathlib import Path
from typing import Any, Final

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP

from axoneme.bpf import registration
from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.datapath import testrun
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.endpoints.maps import InterfaceKey
from axoneme.core.testing.packets import SHOT, PacketBench
from axoneme.plugins.policy import plugin
from axoneme.plugins.policy.datapath import PolicyMaps
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.known import KnownPeers
from axoneme.plugins.policy.selectors import Prefix
from axoneme.plugins.policy.tables import KNOWN, SubjectPolicy

Address = IPv4Address | IPv6Address

POD_MAC: Final = "02:00:00:00:01:07"
HOST_MAC: Final = "02:00:00:00:02:07"
ENDPOINT: Final = 7
HOST_FLAG: Final = 1
REFUSALS: Final = ("POLICY", "POLICY_DENY")
FIRST_PORT: Final = 20000
PORTS: Final = 40000
"""Source ports and echo identifiers, one for each flow; none is anybody's destination."""


@contextlib.contextmanager
def device() -> Iterator[int]:
    """Index of a device that stands for the pod's."""
    name, peer = f"axotr{os.getpid()}", f"axots{os.getpid()}"
    add = ["ip", "link", "add", name, "type", "veth", "peer", "name", peer]
    subprocess.run(add, check=True)
    try:
        yield int(Path(f"/sys/class/net/{name}/ifindex").read_text())
    finally:
        subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)


def registry() -> DatapathRegistry:
    """The pods' programs with the policy plugin alone."""
    found = DatapathRegistry()
    for name in ("from_container", "to_container"):
        found.program(name, registration.PROGRAMS / "container.bpf.c", "tc")
    options = OptionRegistry()
    core_options.register(options)
    plugin.axoneme_register_options(options)
    plugin.axoneme_register_datapath(datapath=found, config=Config.load(options, {}))
    return found


class Program:
    """Programs and maps, filled anew for each case."""

    def __init__(self, bench: PacketBench, ifindex: int, host: Mapping[Address, int]) -> None:
        """``host``: addresses of the node itself, with their identity."""
        self._bench, self._ifindex = bench, ifindex
        self._host = host
        self._generation = count(1)
        self._revision = count(1)
        self._flow = count()
        self._prefixes: set[str] = set()
        self._subject: tuple[Address, ...] = ()
        definition = bench.maps["axoscratch_policy"].definition
        assert definition is not None
        layouts = definition.key, definition.value
        self.maps = PolicyMaps(
            lambda: bench.maps["axo_policy"],
            lambda: layouts,
            lambda: bench.runtime("POLICY_GEN", next(self._generation)),
            16384,
        )
        bench.reset()
        bench.runtime("WORLD_V4", 9)
        bench.runtime("WORLD_V6", 10)

    @classmethod
    @contextlib.contextmanager
    def loaded(cls, cache: Path, host: Mapping[Address, int]) -> Iterator[Program]:
        """Load and, at the end, remove everything."""
        with device() as ifindex, PacketBench(registry(), cache_dir=cache) as bench:
            program = cls(bench, ifindex, host)
            try:
                yield program
            finally:
                program.maps.resync({})

    # A case

    def fill(
        self, engine: PolicyEngine, prefixes: Mapping[Prefix, int], nodes: Mapping[Address, int]
    ) -> None:
        """Policy of every subject of an engine that has been flushed; who is where."""
        rows = {}
        for identity in engine.subjects():
            entries = dict(engine.entries(identity))
            revision = next(self._revision)
            rows[identity] = SubjectPolicy(
                identity, revision, False, False, len(entries), False, entries
            )
        known = KnownPeers()
        for identity in engine.selectors.identities():
            known.add(identity)
        mark = known.take(complete=True)
        if mark is not None:
            rows[KNOWN] = mark
        failed = self.maps.resync(rows)
        assert not failed, failed
        wanted = {str(p): n for p, n in prefixes.items() if p.prefixlen}
        wanted |= {f"{a}/{a.max_prefixlen}": n for a, n in nodes.items()}
        for text in self._prefixes - wanted.keys():
            self._bench.prefixes.delete(self._bench.prefix_key(text))
        for text, identity in wanted.items():
            self._bench.prefix(text, identity)
        self._prefixes = set(wanted)

    def subject(self, identity: int, addresses: tuple[Address, ...]) -> None:
        """Whose policy is asked from now on."""
        bench = self._bench
        for key in list(dict(bench.endpoints.items())):
            bench.endpoints.delete(key)
        bench.devices.delete(InterfaceKey(self._ifindex)) if self._subject else None
        for address, number in self._host.items():
            bench.endpoint(0, 0, number, str(address), flags=HOST_FLAG)
        bench.endpoint(
            ENDPOINT, self._ifindex, identity, *map(str, addresses),
            mac=POD_MAC, host_mac=HOST_MAC,
        )  # fmt: skip
        self._subject = addresses

    def allows(self, source: Address, target: Address, protocol: str, port: int) -> bool:
        """Whether the subject, one of the two ends, lets the first packet of a new flow pass."""
        frame = bytearray(_frame(source, target, protocol, port))
        flow = FIRST_PORT + next(self._flow) % PORTS
        offset = 14 + (20 if source.version == 4 else 40)
        offset += 4 if protocol in ("ICMP", "ICMPv6") else 0
        struct.pack_into("!H", frame, offset, flow)
        sends = source in self._subject
        name = "from_container" if sends else "to_container"
        incoming = 0 if sends or source in self._host else 1  # made here, or came by a device
        program = self._bench.loaded.programs[name].fd
        done = testrun.run(program, bytes(frame), ifindex=self._ifindex, ingress_ifindex=incoming)
        return done.verdict != SHOT

    def check_drops(self) -> None:
        """Nothing but policy has refused anything."""
        reasons = {self._bench.drop_reasons[r].name for r in self._bench.drops()}
        assert reasons <= set(REFUSALS), reasons


@lru_cache(10_000)
def _frame(source: Address, target: Address, protocol: str, port: int) -> bytes:
    layers = {
        "TCP": TCP(sport=1, dport=port, flags="S"),
        "UDP": UDP(sport=1, dport=port),
        "SCTP": SCTP(sport=1, dport=port),
        "ICMP": ICMP(type=port, id=1),
        "ICMPv6": ICMPv6EchoRequest(type=port, id=1),
    }
    layer: Any = IP if source.version == 4 else IPv6
    head = Ether(src=POD_MAC, dst=HOST_MAC) / layer(src=str(source), dst=str(target))
    return bytes(head / layers[protocol])
