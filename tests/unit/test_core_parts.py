"""Services, tasks, locks, devices, conntrack collection, the agent's lock and the lease."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from axoneme.core.agent.lock import state_lock
from axoneme.core.boot import boot
from axoneme.core.conntrack.gc import GRACE_TICKS, ConntrackCollector, ConntrackTable
from axoneme.core.devices import detect, matches
from axoneme.core.errors import AxonemeError, FatalError, NotFoundError
from axoneme.core.locks import KeyedLocks
from axoneme.core.model.network import Route
from axoneme.core.netlink.addresses import AddressInfo
from axoneme.core.netlink.links import LinkInfo
from axoneme.core.operator import Operator
from axoneme.core.services import Services
from axoneme.core.tasks import TaskGroupRunner


def test_a_service_has_one_provider() -> None:
    """Two providers are an error that names both, none is an error on asking."""
    services = Services()
    with pytest.raises(NotFoundError, match="dict"):
        services.get(dict)
    services.provide(dict, {})
    with pytest.raises(AxonemeError, match="dict"):
        services.provide(dict, {})


def test_failing_task_is_restarted_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that raises comes back, with the reason kept; one that returns is done."""
    monkeypatch.setattr("axoneme.core.tasks.FIRST_DELAY", 0.01)
    calls: list[int] = []

    async def flaky() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("not yet")

    async def main() -> None:
        runner = TaskGroupRunner()
        runner.spawn("flaky", flaky)  # before start(): a plugin's set-up
        assert not calls
        runner.start()
        while runner.states["flaky"].state != "done":
            await asyncio.sleep(0.01)
        assert runner.states["flaky"].restarts == 2
        assert [s.error for s in runner.failing()] == ["not yet"]
        await runner.stop()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_fatal_error_of_a_task_ends_the_process() -> None:
    """What cannot be repaired by trying again is handed up."""

    async def dead() -> None:
        raise FatalError("over")

    async def main() -> None:
        runner = TaskGroupRunner()
        runner.fatal = asyncio.get_running_loop().create_future()
        runner.start()
        runner.spawn("dead", dead)
        assert str(await runner.fatal) == "over"

    asyncio.run(asyncio.wait_for(main(), 10))


def test_locks_by_key() -> None:
    """One key in order, two keys side by side, nothing kept afterwards."""
    order: list[str] = []

    async def main() -> None:
        locks = KeyedLocks()

        async def work(key: str, name: str) -> None:
            async with locks.hold(key):
                order.append(f"{name} in")
                await asyncio.sleep(0.01)
                order.append(f"{name} out")

        await asyncio.gather(work("a", "1"), work("a", "2"), work("b", "3"))
        assert len(locks) == 0

    asyncio.run(main())
    assert order.index("1 out") < order.index("2 in")
    assert order.index("3 in") < order.index("1 out")


LINKS = [
    LinkInfo(1, "lo", flags=1),
    LinkInfo(2, "eth0", flags=1, mtu=1500, mac="02:00:00:00:00:01"),
    LinkInfo(3, "eth1", flags=1, mtu=9000),
    LinkInfo(4, "eth2", flags=0),
    LinkInfo(5, "axo_host", flags=1, alias="axoneme"),
    LinkInfo(6, "veth9", flags=1),
]
ADDRESSES = [
    AddressInfo(2, ip_interface("172.18.0.2/24")),
    AddressInfo(2, ip_interface("fe80::1/64")),
    AddressInfo(3, ip_interface("fd00::2/64")),
]
DEFAULT = [(Route(ip_network("0.0.0.0/0"), via=None), 2)]


def test_devices_by_default_route() -> None:
    """Without the key, the device of the default route is native; link-local does not count."""
    found = detect(LINKS, ADDRESSES, DEFAULT)
    assert [d.name for d in found.devices] == ["eth0"]
    assert str(found.address(4)) == "172.18.0.2"
    assert found.address(6) is None


def test_devices_by_patterns() -> None:
    """Globs take what is up; exclusion wins; ours and containers' are never taken by a glob."""
    found = detect(LINKS, ADDRESSES, DEFAULT, patterns=("eth+", "!eth0"))
    assert [d.name for d in found.devices] == ["eth1"]
    assert matches("eth0", ("eth+",))
    assert not matches("eth0", ("eth+", "!eth0"))
    assert not matches("wlan0", ("eth+",))


def test_addresses_of_other_links_are_the_nodes_too() -> None:
    """All that it answers for: not link-local, not loopback, not the services that IPVS keeps."""
    links = [*LINKS, LinkInfo(7, "docker0"), LinkInfo(8, "kube-ipvs0")]
    more = [(1, "127.0.0.1/8"), (5, "10.0.0.1/32"), (7, "172.17.0.1/16"), (8, "10.96.0.1/32")]
    addresses = [*ADDRESSES, *(AddressInfo(i, ip_interface(a)) for i, a in more)]
    found = detect(links, addresses, DEFAULT)
    assert [str(a) for a in found.others] == ["172.17.0.1", "fd00::2"]


def test_direct_routing_device_comes_first() -> None:
    """The named device leads, also when the default route is elsewhere."""
    found = detect(LINKS, ADDRESSES, DEFAULT, direct="eth1")
    assert found.direct is not None
    assert found.direct.name == "eth1"
    assert found.mtu == 1500


def test_without_a_default_route_the_addressed_device_is_taken() -> None:
    """An isolated node has a device all the same."""
    assert [d.name for d in detect(LINKS, ADDRESSES, []).devices] == ["eth0"]


class FakeMap(dict[bytes, bytes]):
    """A table whose entries may be revived between scan and removal."""

    revive: bytes = b""

    def items(self) -> Iterator[tuple[bytes, bytes]]:  # type: ignore[override]
        yield from list(super().items())
        if self.revive:
            self[self.revive] = struct.pack("=QI", 0, 10_000)

    def lookup(self, key: bytes) -> bytes | None:
        return self.get(key)

    def delete(self, key: bytes) -> bool:
        return self.pop(key, None) is not None


def test_collector_spares_the_living_and_the_revived() -> None:
    """Only what has been dead for a while goes; a packet after the scan saves an entry."""
    table = FakeMap()
    now = 1000
    table[b"dead"] = struct.pack("=QI", 0, now - GRACE_TICKS - 1)
    table[b"fresh"] = struct.pack("=QI", 0, now - 1)
    table[b"alive"] = struct.pack("=QI", 0, now + 100)
    table[b"back"] = struct.pack("=QI", 0, 1)
    table.revive = b"back"
    collector = ConntrackCollector({"t": ConntrackTable(table, 8)}, now=lambda: now)
    assert collector.run() == 1
    assert sorted(table) == [b"alive", b"back", b"fresh"]
    assert collector.scanned == {"t": 4}


def test_collector_follows_the_yield() -> None:
    """Much found: sooner; nothing found: later; within bounds; a fixed interval stays."""
    table = FakeMap({bytes([i]): struct.pack("=QI", 0, 0) for i in range(10)})
    collector = ConntrackCollector({"t": ConntrackTable(table, 8)}, now=lambda: 1000)
    before = collector.delay()
    collector.run()
    assert collector.delay() == 10.0 < before
    for _ in range(40):
        collector.run()
    assert collector.delay() == 12 * 3600
    assert ConntrackCollector({}, fixed=7).delay() == 7


def test_second_agent_is_refused(tmp_path: Path) -> None:
    """The lock names the process that runs; it is free again afterwards."""
    with (
        state_lock(tmp_path),
        pytest.raises(FatalError, match="another agent"),
        state_lock(tmp_path),
    ):
        pass
    with state_lock(tmp_path):
        pass


def test_one_operator_leads_and_the_next_takes_over(tmp_path: Path) -> None:
    """Two operators: one works; when it stops, the other one starts its tasks."""

    async def main() -> None:
        flags = {
            "store-path": str(tmp_path),
            "leader-election-retry-period": "0.1s",
            "leader-election-lease-duration": "2s",
            "plugins": "-ipam-cluster-pool -policy -tunnel -masquerade -native-routing",
        }
        operators = []
        tasks = []
        for name in ("one", "two"):
            config, plugins = boot(flags, {})
            operator = Operator(config, plugins)
            operator.identity = name
            operators.append(operator)
            tasks.append(asyncio.create_task(operator.run()))
            await asyncio.sleep(0.5)
        assert [o.leading for o in operators] == [True, False]
        tasks[0].cancel()
        for _ in range(50):
            await asyncio.sleep(0.1)
            if operators[1].leading:
                break
        assert [o.leading for o in operators] == [False, True]
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(main(), 30))
