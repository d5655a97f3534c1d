"""Fan-out, filters, names, and the lines that people read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from ipaddress import IPv4Address
from typing import Any, cast

import pytest
from attrs import evolve, frozen
from click.testing import CliRunner

from axoneme.core.cli.monitor import monitor
from axoneme.core.cli.options import AgentHandle
from axoneme.core.errors import ApiError
from axoneme.core.events.fanout import Fanout
from axoneme.core.events.filters import EventFilter
from axoneme.core.events.model import Event
from axoneme.core.events.names import Names
from axoneme.core.events.reader import BATCH, EventReader
from axoneme.core.events.registry import EventRegistry
from axoneme.core.events.service import EventService
from axoneme.core.events.text import line
from axoneme.core.state import TableRegistry

DROP = Event(
    type=1,
    kind="drop",
    reason=133,
    text="Policy denied",
    time=1.5,
    direction="ingress",
    endpoint=2615,
    source=IPv4Address("10.244.2.5"),
    destination=IPv4Address("10.244.1.7"),
    source_port=40312,
    destination_port=80,
    protocol=6,
    tcp_flags=2,
    source_identity=12034,
    destination_identity=26612,
    destination_endpoint=2615,
    length=74,
)
KNOWN = ("drop", "trace", "policy-verdict")


class Ring:
    """A ring that gives what it was filled with."""

    fd = -1

    def __init__(self, records: list[bytes]) -> None:
        self.records = records

    def drain(self, limit: int = 4096) -> list[bytes]:
        taken, self.records = self.records[:limit], self.records[limit:]
        return taken


def test_slow_listener_loses_and_is_counted() -> None:
    """A full queue keeps the oldest, counts the rest, and the others miss nothing."""

    async def scenario() -> None:
        fanout = Fanout()
        with fanout.subscribe(limit=3) as slow, fanout.subscribe() as fast:
            for number in range(10):
                fanout.publish([Event(type=1, kind="drop", reason=number)])
            assert [x.reason for x in await slow.next()] == [0, 1, 2]
            assert slow.lost == 7
            assert len(await fast.next()) == 10
            assert fast.lost == 0
        assert fanout.subscriptions == set()

    asyncio.run(scenario())


def test_reader_without_listeners_does_not_decode(registry: EventRegistry) -> None:
    """Nobody listens: records are taken so that the ring does not fill, and that is all."""
    reader = EventReader(Ring([b"junk"] * 5), registry, Fanout())
    assert reader.drain() == 5
    assert (reader.read, registry.malformed) == (5, 0)


def test_failing_handler_stops_nobody(
    registry: EventRegistry, record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A plugin's handler that fails is logged once; the others see every batch, bounded."""
    seen: list[int] = []

    def broken(events: list[Event]) -> None:
        raise ValueError(events)

    raw = record(type=1, reason=133)
    handlers = [broken, lambda events: seen.append(len(events))]
    reader = EventReader(Ring([raw] * (BATCH + 10)), registry, Fanout(), handlers)
    assert [reader.drain(), reader.drain(), reader.drain()] == [BATCH, 10, 0]
    assert seen == [BATCH, 10]
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({}, True),
        ({"types": ["drop"]}, True),
        ({"types": ["trace", "policy-verdict"]}, False),
        ({"from": ["shop/client-1"]}, True),
        ({"from": ["10.244.2.5", "9"]}, True),
        ({"from": ["shop/web-1"]}, False),
        ({"to": ["2615"]}, True),
        ({"to": ["shop/web-1"], "from": ["shop/client-1"]}, True),
        ({"to": ["shop/web-1"], "from": ["shop/other"]}, False),
        ({"related_to": ["shop/client-1"]}, True),
        ({"related_to": ["2615"]}, True),
        ({"related_to": ["10.0.0.1"]}, False),
    ],
)
def test_filters(tables: TableRegistry, params: dict[str, Any], wanted: bool) -> None:
    """Values of one field are alternatives, fields must all agree; names, ids, addresses."""
    assert EventFilter.parse(params, KNOWN).wants(DROP, Names(tables)) is wanted


@pytest.mark.parametrize(
    "params", [{"types": ["drops"]}, {"types": "drop"}, {"from": ["x"]}, {"to": ["1"] * 65}]
)
def test_bad_filters_are_refused(params: dict[str, Any]) -> None:
    """A misspelt type or subject is an error with a hint, not an empty stream."""
    with pytest.raises(ApiError):
        EventFilter.parse(params, KNOWN)


def test_names_of_both_sides(tables: TableRegistry) -> None:
    """Pods here and elsewhere, nodes, identities and reserved ones have names."""
    described = Names(tables, "node1").describe(DROP)
    assert described["source"]["name"] == "shop/client-1"
    assert described["source"]["identity_name"] == "shop: app=client"
    assert described["destination"]["name"] == "shop/web-1"
    assert described["endpoint"] == {"id": 2615, "name": "shop/web-1"}
    assert (described["text"], described["summary"]) == ("Policy denied", "tcp SYN")
    json.dumps(described)
    names = Names(tables)
    assert names.identity(2) == "world"
    assert names.identity(4711) == ""
    assert names.node(IPv4Address("172.18.0.3")) == "node2"


def test_names_without_any_table() -> None:
    """Before the agent is up everything is a number, nothing fails."""
    described = Names(TableRegistry()).describe(DROP)
    assert described["source"]["name"] == ""
    assert "12034 -> 26612" in line(described)[0]


def test_drop_line(tables: TableRegistry) -> None:
    """A drop says why, to whom, from which identity, between which pods."""
    text, colour = line(Names(tables, "node1").describe(DROP))
    assert text.endswith(
        "[node1] xx drop (Policy denied) to endpoint 2615 shop/web-1, identity "
        "12034 (shop: app=client) -> 26612 (shop: app=web): "
        "shop/client-1:40312 (10.244.2.5) -> shop/web-1:80 (10.244.1.7) tcp SYN"
    )
    assert colour == "red"
    numeric, _ = line(Names(tables).describe(DROP), numeric=True)
    assert numeric.endswith("identity 12034 -> 26612: 10.244.2.5:40312 -> 10.244.1.7:80 tcp SYN")


def test_rule_that_decided(tables: TableRegistry) -> None:
    """A deny rule is named by its policy; one that is gone by now, by its number."""

    @frozen
    class Row:
        cookie: int
        origin: str

    tables.create("rules", Row, key=lambda r: r.cookie).upsert(
        Row(7, "CiliumNetworkPolicy shop/no-clients")
    )
    names = Names(tables)
    text, _ = line(names.describe(evolve(DROP, text="Policy denied by denylist", cookie=7)))
    assert "(Policy denied by denylist, rule CiliumNetworkPolicy shop/no-clients)" in text
    assert "rule 8)" in line(names.describe(evolve(DROP, cookie=8)))[0]


def test_lines_of_other_types(tables: TableRegistry) -> None:
    """Verdicts, traces, plugins' events and losses each have their form."""
    names = Names(tables)
    verdict = Event(
        type=5, kind="policy-verdict", direction="egress", endpoint=2615, allowed=True,
        match="L3-L4", protocol=17, destination_identity=2, cookie=7,
    )  # fmt: skip
    text, _ = line(names.describe(verdict))
    assert "local endpoint 2615 shop/web-1, remote 2 (world), egress, action allow" in text
    assert "match L3-L4, rule 7" in text
    trace = Event(type=4, kind="trace", text="to-endpoint", ct_state="new", endpoint=2615)
    assert "-> endpoint 2615 shop/web-1, identity 0 (unknown)" in line(names.describe(trace))[0]
    other = Event(type=200, kind="greeting", text="hello", data={"count": 3})
    assert "** greeting (hello)" in line(names.describe(other))[0]
    assert "count 3" in line(names.describe(other))[0]
    assert line({"lost": 12, "where": "ring-full"})[0] == "!! 12 events lost (ring-full)"


def test_escape_sequences_do_not_reach_the_terminal(tables: TableRegistry) -> None:
    """A name with terminal escapes is printed without them (CVE-2025-48056)."""
    described = Names(tables).describe(DROP)
    described["source"]["name"] = "shop/\x1b[2J\x9bevil\u202e"
    text, _ = line(described)
    assert not any(c in text for c in "\x1b\x9b\u202e")


def test_stream_of_the_local_api(tables: TableRegistry) -> None:
    """A listener is told that it is heard, gets what it asked for, and what was lost."""

    async def scenario() -> list[dict[str, Any]]:
        service = EventService(tables, "node1")
        stream = cast(
            AsyncGenerator[dict[str, Any], None],
            service.stream({"types": ["drop"], "hello": True}),
        )
        got = [await anext(stream)]
        service.fanout.publish([Event(type=4, kind="trace"), DROP])
        got.append(await anext(stream))
        (subscription,) = service.fanout.subscriptions
        subscription.lost = 5
        service.fanout.publish([DROP])
        got += [await anext(stream), await anext(stream)]
        await stream.aclose()
        assert service.fanout.subscriptions == set()
        assert service.losses()["slow-reader"] == 5
        return got

    hello, drop, lost, again = asyncio.run(scenario())
    assert hello == {"hello": True}
    assert drop["type"] == again["type"] == "drop"
    assert lost == {"lost": 5, "where": "slow-reader"}


def test_monitor_command(monkeypatch: pytest.MonkeyPatch, tables: TableRegistry) -> None:
    """The command passes its filters on, prints lines or JSON, and ends after --count."""
    asked: list[Any] = []

    def stream(self: AgentHandle, method: str, params: Any = None) -> Any:
        asked.append((method, params))
        yield {"lost": 3, "where": "ring-full"}
        while True:
            yield Names(tables, "node1").describe(DROP)

    monkeypatch.setattr(AgentHandle, "stream", stream)
    arguments = ["-t", "drop", "--from", "shop/client-1", "--count", "2"]
    result = CliRunner().invoke(monitor, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.count("xx drop (Policy denied)") == 2
    assert "!! 3 events lost" in result.output
    assert asked[0][1] == {
        "types": ["drop"],
        "from": ["shop/client-1"],
        "to": [],
        "related_to": [],
    }
    result = CliRunner().invoke(monitor, ["-o", "json", "--count", "1"])
    assert json.loads(result.output.splitlines()[-1])["text"] == "Policy denied"
