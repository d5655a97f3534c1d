"""A bench for packets: programs composed with chosen stages, maps filled by hand, no device used.

A test describes endpoints, prefixes and policy, runs one packet, and looks at the verdict, the
packet that came out, the maps and the events. Packets are scapy's or plain bytes.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from axoneme.core.datapath import compose, testrun
from axoneme.core.datapath.enums import find_enum
from axoneme.core.datapath.layouts import layout_of
from axoneme.core.datapath.loader import Loaded, load_text, verified_insns
from axoneme.core.datapath.maps import BpfMap
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.datapath.ring import RingReader
from axoneme.core.datapath.typed import Codec, TypedMap, prefix_bits
from axoneme.core.endpoints.maps import AddressKey, AddressValue, InterfaceKey, InterfaceValue
from axoneme.core.ipcache.maps import IpcacheKey, IpcacheValue
from axoneme.core.testing import packet_models as models

OK: Final = 0
SHOT: Final = 2
REDIRECT: Final = 7

INGRESS: Final = 0
EGRESS: Final = 1

_SMALL: Final = {
    "axo_ct4": 4096, "axo_ct6": 4096, "axo_ct_any4": 4096, "axo_ct_any6": 4096,
    "axo_ipcache": 4096, "axo_endpoints": 256, "axo_ep_by_if": 256, "axo_policy": 256,
}  # fmt: skip
_KEEP: Final = ("axo_runtime", "axo_events", "axo_event_loss")


@frozen
class Outcome:
    """What became of a packet. ``drop`` is the reason's name, or empty."""

    verdict: int
    data: bytes
    drop: str
    duration_ns: int


class PacketBench:
    """The programs of one unit, loaded with maps of their own.

    ``edit`` may change the composed text, to provoke what the real one makes improbable.
    """

    def __init__(
        self,
        registry: DatapathRegistry,
        *,
        unit: str = "container",
        cache_dir: Path | None = None,
        sizes: Mapping[str, int] | None = None,
        edit: Callable[[str], str] = str,
    ) -> None:
        chosen = next(u for u in compose.units(registry) if u.name == unit)
        text = edit(compose.compose(registry, chosen).text)
        self.loaded: Loaded = load_text(
            text,
            kind=chosen.kind,
            kinds={p.entry: p.kind for p in chosen.programs},
            structs=("axo_event",),
            sizes={**_SMALL, **(sizes or {})},
            cache_dir=cache_dir,
            name=unit,
        )
        for call in registry.tail_calls:
            if call.array in self.maps and call.function in self.loaded.programs:
                target = struct.pack("=I", self.loaded.programs[call.function].fd)
                self.maps[call.array].update(struct.pack("=I", call.index), target)
        self.drop_reasons = find_enum(registry.include_dirs, "AXO_DROP")
        self.slots = find_enum(registry.include_dirs, "AXO_RUNTIME").by_name
        described = self.loaded.compiled.structs["axo_event"]
        self._event = Codec(models.EventRecord, layout_of(described, "axo_event"))
        self._ring = RingReader(self.maps["axo_events"])
        self._inner: list[BpfMap] = []
        self.endpoints = self._typed("axo_endpoints", AddressKey, AddressValue)
        self.devices = self._typed("axo_ep_by_if", InterfaceKey, InterfaceValue)
        self.prefixes = self._typed("axo_ipcache", IpcacheKey, IpcacheValue)
        self.metrics = self._typed("axo_metrics", models.MetricKey, models.MetricValue)

    @property
    def maps(self) -> dict[str, BpfMap]:
        """All maps by name."""
        return self.loaded.maps

    def _typed(self, name: str, key: type[Any], value: type[Any]) -> TypedMap[Any, Any]:
        return TypedMap(self.maps[name], key, value)

    def close(self) -> None:
        """Close every descriptor."""
        self._ring.close()
        for inner in self._inner:
            inner.close()
        self.loaded.close()

    def __enter__(self) -> PacketBench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reset(self) -> None:
        """Empty the maps between two tests."""
        for name, each in self.maps.items():
            if name in _KEEP or each.info.type_name in ("percpu_array", "prog_array", "array"):
                continue
            if not name.startswith("axoscratch_"):
                for key in list(each.keys()):
                    with contextlib.suppress(KeyError):
                        each.delete(key)
        for inner in self._inner:
            inner.close()
        self._inner.clear()
        for slot in range(64):
            self.maps["axo_runtime"].update(struct.pack("=I", slot), bytes(8))
        while self._ring.drain():
            pass

    def endpoint(
        self,
        number: int,
        ifindex: int,
        identity: int,
        *addresses: str,
        mac: str = "",
        host_mac: str = "",
        flags: int = 0,
    ) -> None:
        """A local endpoint (``flags`` 1: an address of the node) with its addresses."""
        mac = mac or f"02:00:00:00:01:{number:02x}"
        host_mac = host_mac or f"02:00:00:00:02:{number:02x}"
        known = [ip_address(a) for a in addresses]
        for address in known:
            self.endpoints[AddressKey(address)] = AddressValue(
                ifindex, number, flags, identity, mac, host_mac
            )
        if ifindex:
            self.devices[InterfaceKey(ifindex)] = InterfaceValue(
                number,
                flags,
                identity,
                next((a for a in known if a.version == 4), None),
                next((a for a in known if a.version == 6), None),
            )

    def prefix(self, cidr: str, identity: int, node: str = "", flags: int = 0) -> None:
        """An entry of the ipcache."""
        node_ip = ip_address(node) if node else None
        self.prefixes[self.prefix_key(cidr)] = IpcacheValue(identity, node_ip, flags)

    @staticmethod
    def prefix_key(cidr: str) -> IpcacheKey:
        """Key of an entry of the ipcache."""
        network: IPv4Network | IPv6Network = ip_network(cidr)
        return IpcacheKey(prefix_bits(network), network.network_address)

    def runtime(self, slot: str, value: int | bytes) -> None:
        """Set a slot of ``axo_runtime``; bytes are laid from its first byte on."""
        raw = value.ljust(8, b"\0") if isinstance(value, bytes) else struct.pack("=Q", value)
        self.maps["axo_runtime"].update(struct.pack("=I", self.slots[slot]), raw)

    def subject(self, identity: int) -> TypedMap[models.PolicyKey, models.PolicyValue]:
        """The policy entries of an identity; made empty when there are none yet."""
        outer, template = self.maps["axo_policy"], self.maps["axoscratch_policy"]
        key = struct.pack("=I", identity)
        inner = outer.get_map(key)
        if inner is None:
            info = template.info
            inner = BpfMap.create(
                info.type, info.key_size, info.value_size, 1024, info.flags, "axot_policy"
            )
            outer.set_map(key, inner)
        inner.definition = template.definition
        self._inner.append(inner)
        return TypedMap(inner, models.PolicyKey, models.PolicyValue)

    def rule(
        self,
        subject: int,
        direction: int,
        *,
        peer: int = 0,
        proto: int = 0,
        port: int = 0,
        bits: int | None = None,
        deny: int = 0,
        precedence: int | None = None,
        cookie: int = 0,
    ) -> None:
        """One policy entry. ``bits`` of the L4 part: by default as many as are given; ``deny``:
        ``AXO_POLICY_DENY_*``."""
        if bits is None:
            bits = 24 if port else 8 if proto else 0
        if precedence is None:
            precedence = 255 if deny == 1 else 1
        key = models.PolicyKey(40 + bits, peer, direction, proto, port)
        value = models.PolicyValue(
            precedence=precedence, cookie=cookie, proxy_port=0, deny=int(deny), prefix_len=bits
        )
        self.subject(subject)[key] = value

    def run(self, program: str, packet: Any, **fields: Any) -> Outcome:
        """Run one packet; ``fields`` as of :func:`axoneme.core.datapath.testrun.run`."""
        before = self.drops()
        done = testrun.run(self.loaded.programs[program].fd, bytes(packet), **fields)
        new = [r for r, n in self.drops().items() if n != before.get(r, 0)]
        name = self.drop_reasons[new[0]].name if new else ""
        return Outcome(done.verdict, done.data_out, name, done.duration_ns)

    def drops(self) -> dict[int, int]:
        """Packets dropped so far, by reason."""
        sums: dict[int, int] = {}
        for key, value in self.metrics.items():
            if key.reason:
                sums[key.reason] = sums.get(key.reason, 0) + value.packets
        return sums

    def events(self, kind: int | None = None) -> list[models.EventRecord]:
        """Events since the last call, of one type if ``kind`` is given."""
        records = [self._event.unpack(raw) for raw in self._ring.drain()]
        return [r for r in records if kind is None or r.type == kind]

    def flows(self) -> Iterator[tuple[str, bytes, models.FlowEntry]]:
        """All conntrack entries: map, raw key, entry."""
        for name in ("axo_ct4", "axo_ct6", "axo_ct_any4", "axo_ct_any6"):
            definition = self.maps[name].definition
            assert definition is not None
            codec = Codec(models.FlowEntry, definition.value)
            for key, value in self.maps[name].items():
                yield name, key, codec.unpack(value)

    def flow(self) -> models.FlowEntry:
        """The only conntrack entry."""
        entries = [entry for _, _, entry in self.flows()]
        assert len(entries) == 1, entries
        return entries[0]

    def edit_flow(self, **changes: Any) -> None:
        """Change fields of the only conntrack entry."""
        from attrs import evolve  # noqa: PLC0415 # tests alone need it

        [(name, key, entry)] = list(self.flows())
        definition = self.maps[name].definition
        assert definition is not None
        codec = Codec(models.FlowEntry, definition.value)
        self.maps[name].update(key, codec.pack(evolve(entry, **changes)))

    def verified(self, program: str) -> int:
        """Instructions that the verifier walked through."""
        return verified_insns(self.loaded.programs[program].fd)
