"""XDP: an outsider's datagrams to a backend on another node, packets per second beside tc.

One namespace with a pair of devices. A program makes frames and sends them out of one end, as a
driver hands them over (``BPF_F_TEST_XDP_LIVE_FRAMES``); the node's programs at the other end send
them back, and there they are counted and dropped. For tc the kernel makes a packet of each frame
first, as it does behind a driver. No stack, bridge or other node is in the figure; making the
frames is, alike for both.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from axoneme.core.datapath import kinds, syscalls
from axoneme.core.datapath.loader import Loaded, load_text
from axoneme.core.model.balancing import NO_FLAG, Flag, Kind
from tests.perf.measure import Result, alternate
from tests.services.kit import backend, service
from tests.services.nodes import Node, registry, space

Note = Callable[[str], None]

CLIENT: Final = {4: "198.51.100.1", 6: "2001:db8:51::1"}
VIP: Final = {4: "192.0.2.10", 6: "2001:db8:2::10"}
FRAMES: Final = 1_000_000
FLOWS: Final = 256
BYTES: Final = 80
MODES: Final = {"SNAT": NO_FLAG, "DSR": Flag.DSR}
SOURCE: Final = Path(__file__).with_name("flood.bpf.c")
NATIVE: Final = 4
LIVE_FRAMES: Final = 2
ACTIONS: Final = {"xdp drop": 1, "xdp pass": 2, "tc drop": 2}
_RETURN: Final = bytes.fromhex("9500000000000000")


def question(version: int, sport: int) -> Packet:
    """One flow's datagram, of ``BYTES`` bytes."""
    ends = {"src": CLIENT[version], "dst": VIP[version]}
    ip = IP(**ends) if version == 4 else IPv6(**ends)
    ether = Ether(src="02:00:00:00:00:03", dst=mac("d0"))
    headers = 42 if version == 4 else 62
    return ether / ip / UDP(sport=sport, dport=80) / bytes(BYTES - headers)


def mac(device: str) -> str:
    """Of a device of this namespace."""
    shown = subprocess.run(
        ["ip", "-o", "link", "show", device], capture_output=True, text=True, check=True
    )
    return shown.stdout.split("link/ether ")[1].split()[0]


def received(device: str) -> int:
    """Packets, those that XDP dropped too."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == device:
            return int(numbers.split()[1])
    raise RuntimeError(f"no device {device}")


def action(name: str) -> int:
    """A program that only answers."""
    kind = kinds.KINDS[name.split(maxsplit=1)[0]]
    code = struct.pack("=BBhi", 0xB7, 0, 0, ACTIONS[name]) + _RETURN
    descriptor, log = syscalls.prog_load(
        kind.prog_type, code, name="axob_action", expected_attach_type=kind.attach_type
    )
    if descriptor < 0:
        raise RuntimeError(log)
    return descriptor


class Reflector:
    """The node between the source of frames and the sink, which are one device."""

    def __init__(self, one: Node, two: Node, device: int) -> None:
        self.one, self.two, self.device = one, two, device
        self.outside = socket.if_nametoindex("d1")
        self.actions = {name: action(name) for name in ACTIONS}
        head = f"#define FLOOD_BYTES {BYTES}\n#define FLOOD_DEVICE {self.outside}\n"
        self.flood: Loaded = load_text(head + SOURCE.read_text(), kind="xdp", name="flood")

    def prepare(self, version: int, flags: Flag) -> None:
        """Rows of the service, and the frames."""
        self.one.fill([self.two], self.device, tunnel=False)
        far = backend(1, self.two.pod(version, 5), 8080, 17)
        front = [(VIP[version], 80, Kind.LOAD_BALANCER)]
        self.one.balancer.put(service(1, front, [far], proto=17, flags=flags))
        for number in range(FLOWS):
            frame = bytes(question(version, 4000 + number))
            self.flood.maps["axob_frames"].update(struct.pack("=I", number), frame)

    def rate(self, kind: str) -> float:
        """Millions of packets per second that come back."""
        outside, inside = self.outside, self.device
        links = [(self.actions[f"{kind} drop"], outside, kind)]
        if kind == "xdp":
            links += [(self.one.loaded.programs["from_netdev_xdp"].fd, inside, "xdp")]
        else:  # a device that takes frames, and makes packets of them
            links += [(self.one.loaded.programs["from_netdev"].fd, inside, "tc")]
            links += [(self.actions["xdp pass"], inside, "xdp")]
        with contextlib.ExitStack() as attached:
            for descriptor, index, hook in links:
                xdp = hook == "xdp"
                point, flags = (kinds.XDP, NATIVE) if xdp else (kinds.TCX_INGRESS, 0)
                link = syscalls.link_create(descriptor, index, point, flags)
                attached.callback(os.close, link)
            before, began = received("d1"), time.perf_counter()
            run_live(self.flood.programs["flood"].fd, bytes(BYTES), FRAMES)
            spent = time.perf_counter() - began
            came = received("d1") - before
        if came < FRAMES * 0.99:
            raise RuntimeError(f"{kind}: {came} of {FRAMES} frames came back")
        return came / spent / 1e6


def run_live(program: int, frame: bytes, repeat: int) -> None:
    """``BPF_PROG_TEST_RUN`` with frames that go where the program sends them."""
    data = ctypes.create_string_buffer(frame, len(frame))
    where = ctypes.addressof(data)
    head = program, 0, len(frame), 0, where, 0, repeat, 0, 0, 0, 0, 0, LIVE_FRAMES, 0, 64
    syscalls.bpf(syscalls.PROG_TEST_RUN, syscalls.attributes("=IIIIQQIIIIQQIII4x", *head))


def bench(folder: Path, repetitions: int, note: Note, wanted: set[str]) -> Iterator[Result]:
    """Both modes and families."""
    if "XDP" not in wanted:
        return
    made = registry()
    with space() as device, Node(made, 1, folder) as one, Node(made, 2, folder) as two:
        reflector = Reflector(one, two, device)
        for mode, flags in MODES.items():
            for version in (4, 6):
                reflector.prepare(version, flags)
                sides = {kind: lambda kind=kind: reflector.rate(kind) for kind in ("xdp", "tc")}
                found = alternate(sides, repetitions, note)
                what = f"{mode}, IPv{version}: XDP beside tc"
                yield Result("XDP", what, "Mpps", found["xdp"], found["tc"], "> 1", None)
