"""Masquerading's decisions without a kernel."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from attrs import evolve

from axoneme.core.config import Config, OptionRegistry
from axoneme.core.errors import ConfigError
from axoneme.core.options import register as register_core
from axoneme.plugins.masquerade import compute
from axoneme.plugins.masquerade import config as options_of
from axoneme.plugins.masquerade.cli import line
from axoneme.plugins.masquerade.config import MasqueradeSettings
from axoneme.plugins.masquerade.gc import NatCollector
from axoneme.plugins.masquerade.rows import NatEntry, NatKey, NatKey4, NatKey6
from axoneme.plugins.masquerade.views import mapping_row

POD, NODE, WORLD = (IPv4Address(a) for a in ("10.244.1.5", "172.18.0.2", "198.51.100.1"))
OUT = NatKey4(POD, WORLD, 17, 0, 1234, 53)
IN = NatKey4(WORLD, NODE, 17, 1, 53, 40000)


def load(**flags: str) -> Config:
    """A configuration of the core's keys and ours."""
    registry = OptionRegistry()
    register_core(registry)
    from axoneme.plugins.ipam_cluster_pool import config as pool

    pool.register(registry)
    options_of.register(registry)
    names = {key.replace("_", "-"): value for key, value in flags.items()}
    return Config.load(registry, names, {}, None, None)


def pair(out_expires: int, in_expires: int) -> dict[NatKey, NatEntry]:
    """Both sides of a mapping."""
    return {
        OUT: NatEntry(NODE, 0, 1, out_expires, 0, 40000),
        IN: NatEntry(POD, 0, 1, in_expires, 0, 1234),
    }


def test_both_sides_name_each_other() -> None:
    """The key of the other side follows from key and entry, in both families."""
    table = pair(9, 9)
    assert compute.answer_key(OUT, table[OUT]) == IN
    assert compute.origin_key(IN, table[IN]) == OUT
    pod, node, world = (IPv6Address(a) for a in ("fd00::5", "fd00:18::2", "2001:db8::1"))
    out = NatKey6(pod, world, 6, 0, 1, 2)
    answer = compute.answer_key(out, NatEntry(node, 0, 1, 1, 0, 40000))
    assert answer == NatKey6(world, node, 6, 1, 2, 40000)


def gone(table: dict[NatKey, NatEntry], now: int) -> set[NatKey]:
    """What a scan at ``now`` would remove."""
    late = {k: e for k, e in table.items() if e.expires < now}
    return set(compute.expired(late, table.get, now))


def test_a_mapping_goes_when_both_sides_are_past_their_time() -> None:
    """A side that lives keeps its partner."""
    assert gone(pair(5, 5), 10) == {OUT, IN}
    assert gone(pair(5, 15), 10) == set()
    assert gone(pair(15, 5), 10) == set()
    assert gone(pair(10, 10), 10) == set()


def test_a_side_without_its_partner_goes_by_its_own_time() -> None:
    """The LRU may have taken one of the two."""
    table = pair(5, 5)
    del table[IN]
    assert gone(table, 10) == {OUT}
    assert gone(table, 5) == set()


def test_a_side_whose_place_another_flow_has_taken_goes_alone() -> None:
    """Only entries that name each other are a pair."""
    table = pair(5, 5)
    table[IN] = NatEntry(IPv4Address("10.244.1.6"), 0, 1, 15, 0, 1234)
    assert gone(table, 10) == {OUT}


def test_exempt_networks_become_conditions() -> None:
    """Host order words; nothing exempt is a plain 0."""
    assert compute.exempt_terms([]) == "0"
    four = compute.exempt_terms([ip_network("10.244.0.0/16")])
    assert four == "AXO_MASQ_NET4(0xaf40000u, 0xffff0000u)"
    six = compute.exempt_terms([ip_network("fd00:10:244::/48")])
    assert six.startswith("AXO_MASQ_NET6(0xfd000010u, 0x2440000u, 0x0u, 0x0u, 0xffffffffu")
    both = compute.exempt_terms([ip_network("10.0.0.0/8"), ip_network("192.168.0.0/16")])
    assert " || " in both


def test_a_device_gives_its_first_usable_address() -> None:
    """Link-local addresses stand for nobody; a family that is off has none."""
    settings = MasqueradeSettings.from_config(load())
    own = [ip_address(a) for a in ("169.254.1.1", "172.18.0.2", "172.18.0.9", "fe80::1", "fd00::2")]
    row = compute.device_address(3, "eth0", own, settings)
    assert (row.ipv4, row.ipv6) == (ip_address("172.18.0.2"), ip_address("fd00::2"))
    row = compute.device_address(3, "eth0", own, evolve(settings, ipv6=False))
    assert row.ipv6 is None


def test_native_routing_falls_back_to_the_clusters_pools() -> None:
    """Without a native-routing CIDR the pods' own prefixes are what is routed."""
    config = load(routing_mode="native", cluster_pool_ipv4_cidr="10.244.0.0/16")
    settings = MasqueradeSettings.from_config(config)
    assert ip_network("10.244.0.0/16") in settings.exempt
    assert not settings.remote_nodes
    options_of.check(config)
    config = load(routing_mode="native", ipv4_native_routing_cidr="10.0.0.0/8")
    assert ip_network("10.0.0.0/8") in MasqueradeSettings.from_config(config).exempt


def test_a_tunnel_exempts_nothing_by_itself() -> None:
    """Other nodes see the node's address."""
    settings = MasqueradeSettings.from_config(load(routing_mode="tunnel"))
    assert settings.exempt == ()
    assert settings.remote_nodes


@pytest.mark.parametrize("text", ["1-2", "40000-30000", "40000", "a-b", "32768-70000", "-", "²-³"])
def test_a_bad_port_range_is_refused(text: str) -> None:
    """Key, value and what is allowed are in the message."""
    with pytest.raises(ConfigError, match="masquerade-port-range"):
        load(masquerade_port_range=text)


class FakeTable:
    """As much of a typed map as the collector uses; ``revive`` plays a packet in between."""

    def __init__(self, rows: dict[NatKey, NatEntry], revive: NatKey | None = None) -> None:
        self.rows = rows
        self.revive = revive

    def scan(self, now: int) -> tuple[int, dict[NatKey, NatEntry]]:
        late = {k: e for k, e in self.rows.items() if e.expires < now}
        if self.revive is not None:
            self.rows[self.revive] = evolve(self.rows[self.revive], expires=1 << 31)
        return len(self.rows), late

    def get(self, key: NatKey) -> NatEntry | None:
        return self.rows.get(key)

    def delete_batch(self, keys: list[NatKey]) -> None:
        for key in keys:
            self.rows.pop(key, None)


def collector(table: FakeTable) -> NatCollector:
    """A collector of one table."""
    return NatCollector({4: table})


def test_the_collector_removes_the_dead_and_comes_sooner() -> None:
    """Many dead: the next scan is nearer; none: further."""
    table = FakeTable(pair(1, 1))
    made = collector(table)
    before = made.pace.interval
    assert made.run() == 2
    assert table.rows == {}
    assert made.pace.interval < before
    assert made.run() == 0
    assert made.pace.interval >= made.pace.shortest


def test_what_a_packet_has_revived_stays() -> None:
    """Both sides are looked at again before one goes: half a mapping would be worse than none."""
    for side in (OUT, IN):
        table = FakeTable(pair(1, 1), revive=side)
        assert collector(table).run() == 0
        assert set(table.rows) == {OUT, IN}


def test_a_mapping_prints_as_one_line() -> None:
    """In the words of cilium-dbg."""
    row = mapping_row(OUT, NatEntry(NODE, 0, 90, 160, 0, 40000), 100)
    assert line(row) == (
        "UDP OUT 10.244.1.5:1234 -> 198.51.100.1:53 XLATE_SRC 172.18.0.2:40000 "
        "Created=10sec ago Expires=60sec"
    )


def test_devices_on_which_pods_keep_their_address() -> None:
    """Patterns as of the key devices; none means that all translate."""
    addresses = [NODE]
    on = MasqueradeSettings.from_config(load(egress_masquerade_interfaces="eth+ !eth1"))
    kept = {n: compute.device_address(2, n, addresses, on).keeps for n in ("eth0", "eth1", "wg0")}
    assert kept == {"eth0": False, "eth1": True, "wg0": True}
    every = MasqueradeSettings.from_config(load())
    assert not compute.device_address(2, "wg0", addresses, every).keeps


def test_other_nodes_see_the_node_where_that_is_asked_for() -> None:
    """Natively routed they see the pod, unless the key says so."""
    native = {"routing_mode": "native", "ipv4_native_routing_cidr": "10.0.0.0/8",
              "ipv6_native_routing_cidr": "fd00::/8"}  # fmt: skip
    assert not MasqueradeSettings.from_config(load(**native)).remote_nodes
    asked = load(**native, enable_remote_node_masquerade="true")
    assert MasqueradeSettings.from_config(asked).remote_nodes
    assert MasqueradeSettings.from_config(load(routing_mode="tunnel")).remote_nodes
