"""``policy.trace`` over real tables: who is meant, what is said, and what the kernel holds."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from axoneme.core.dns_names import peer_matches
from axoneme.core.errors import ApiError
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.identities.reserved import reserved_identities
from axoneme.core.ipcache.remote import ClusterEndpoint
from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.node import Node as NodeRow
from axoneme.core.model.policy import FqdnPeer
from axoneme.core.nodes.directory import node_tables
from axoneme.core.nodes.identities import NodeIdentities
from axoneme.core.services import Services
from axoneme.plugins.policy.audit import AuditMode
from axoneme.plugins.policy.tests.test_manager import CLIENT, WEB, FakeMaps, Node, policy
from axoneme.plugins.policy.trace import Tracer

HTTP = (NamedPort("http", 8080, "TCP"),)


class ReadableMaps(FakeMaps):
    """What was applied can be read again."""

    def read(self, identity: int) -> Any:
        row = self.rows.get(identity)
        return None if row is None else dict(row.entries)


class World:
    """Two nodes: ``web`` here, ``client`` there."""

    def __init__(self, node: Node, tracer: Tracer, audited: set[int]) -> None:
        self.node, self.tracer, self.audited = node, tracer, audited

    async def apply(self, *items: dict[str, Any], **spec: Any) -> None:
        """A policy of web, in the kernel."""
        before = self.node.manager.revision
        spec = {"endpointSelector": {"matchLabels": {"app": "web"}}, **spec}
        await self.node.store.apply(policy(*items, **spec))
        await self.node.until(lambda: self.node.manager.revision > before)
        await asyncio.sleep(0.05)
        await self.node.manager.realised()

    async def ask(self, source: str, target: str, port: str | None = "80/TCP", **more: Any) -> Any:
        """The answer."""
        given = {"from": source, "to": target, **more}
        return await self.tracer.trace(given | ({"port": port} if port else {}))


@asynccontextmanager
async def made(tmp_path: Path) -> AsyncIterator[World]:
    node = Node(tmp_path)
    node.maps = node.manager.maps = node.manager.reconciler.target = ReadableMaps()  # type: ignore[assignment]
    for row in reserved_identities():
        node.identities.upsert(row)
    _, nodes = node_tables(node.tables)
    here, there = IPv4Address("172.18.0.2"), IPv4Address("172.18.0.3")
    nodes.upsert(NodeRow("node1", here, local=True))
    nodes.upsert(NodeRow("node2", there))
    node.ipcache.add_world(ipv4=True, ipv6=True)
    config: dict[str, Any] = {}
    audited: set[int] = set()
    services = Services()
    mode: Any = SimpleNamespace(audits=audited.__contains__)
    services.provide(AuditMode, mode)
    agent = SimpleNamespace(
        node_name="node1", ipv4=True, ipv6=True, tables=node.tables, store=node.store,
        ipcache=node.ipcache, config=config, services=services,
        node_identities=NodeIdentities(
            node.tables["identities"], nodes, remote_labels=False, host_labels=False,
            chosen=LabelFilter.of_nodes(), realised=lambda: None,
        ),
    )  # fmt: skip
    async with node:
        endpoint = evolve(
            node.endpoint(1, WEB), pod="web-5f-x1", ipv4=IPv4Address("10.0.0.1"),
            ipv6=IPv6Address("fd00::1"), named_ports=HTTP,
        )  # fmt: skip
        node.endpoints.upsert(endpoint)
        node.peers.upsert(
            ClusterEndpoint("red", "client", CLIENT, IPv4Address("10.0.1.1"), None, there)
        )
        node.endpoints.flush()
        node.peers.flush()
        yield World(node, Tracer(agent, node.manager), audited)  # type: ignore[arg-type]


def scenario(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that gets a ``world`` of its own."""

    def run(tmp_path: Path, **given: Any) -> None:
        async def within() -> None:
            async with made(tmp_path) as world:
                await test(world, **given)

        asyncio.run(within())

    names = list(inspect.signature(test).parameters)[1:]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, kind) for n in ("tmp_path", *names)]
    )
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@scenario
async def test_both_ends_are_judged_wherever_they_live(world: World) -> None:
    """The subject of egress is on another node: its policy is computed all the same."""
    await world.apply({"fromEndpoints": [{"matchLabels": {"app": "client"}}]})
    answer = await world.ask("red/client", "red/web")
    assert (answer["verdict"], answer["families"]) == ("allowed", [4])
    assert answer["from"]["node"] == "node2"
    assert answer["egress"]["enforced"] is False
    assert answer["egress"]["realised"] is None
    ingress = answer["ingress"]
    assert ingress["deciding"]["object"] == "CiliumNetworkPolicy red/p"
    assert ingress["deciding"]["path"] == "spec.ingress[0]"
    assert ingress["deciding"]["line"] > 1
    assert ingress["realised"].pop("revision") > 1
    assert ingress["realised"] == {
        "locked": False, "verdict": "allowed", "same": True, "message": "",
    }  # fmt: skip
    assert world.node.manager.engine.subjects() == [WEB]


@scenario
async def test_what_is_closed_names_what_closes_it(world: World) -> None:
    """A denial without a rule that denies."""
    await world.apply({"fromEndpoints": [{"matchLabels": {"app": "other"}}]})
    answer = await world.ask("red/client", "red/web")
    assert answer["verdict"] == "denied"
    assert answer["ingress"]["deciding"] is None
    assert [r["path"] for r in answer["ingress"]["enforced_by"]] == ["spec.ingress[0]"]


@scenario
async def test_a_port_name_is_the_target_s(world: World) -> None:
    """As in rules; a name that the target has not is an error that lists those it has."""
    answer = await world.ask("red/client", "red/web", "http/TCP")
    assert (answer["protocol"], answer["port"]) == ("TCP", 8080)
    with pytest.raises(ApiError, match="http 8080/TCP"):
        await world.ask("red/client", "red/web", "dns/UDP")


@scenario
async def test_worlds_nodes_and_addresses_are_ends(world: World) -> None:
    """By family; a node is the host only for its own pods."""
    await world.apply({"fromEntities": ["world"]}, {"fromEntities": ["remote-node"]})
    answer = await world.ask("world", "red/web")
    assert [answer["families"], *[a["families"] for a in answer["others"]]] == [[4], [6]]
    assert answer["verdict"] == "allowed"
    assert (await world.ask("8.8.8.8", "red/web"))["ingress"]["peer"]["identity"] == 9
    assert (await world.ask("node1", "red/web"))["ingress"]["reason"].startswith("the node reaches")
    far = await world.ask("node2", "red/web", None, icmp="ping")
    assert (far["verdict"], far["ingress"]["peer"]["identity"], far["port"]) == ("allowed", 6, 8)
    near = await world.ask("node1", "red/client")
    assert near["ingress"]["peer"]["identity"] == 6  # client is not on node1
    assert (await world.ask("10.0.1.1", "10.0.0.1"))["from"]["name"] == "red/client"


@scenario
async def test_a_pod_always_reaches_itself(world: World) -> None:
    """What never leaves it is judged by nobody."""
    await world.apply()
    assert (await world.ask("red/web", "red/web"))["verdict"] == "allowed"


@scenario
async def test_a_kernel_that_lags_or_is_locked_is_told(world: World) -> None:
    """The verdict is the engine's; what is not in force says so."""
    await world.apply({"fromEndpoints": [{"matchLabels": {"app": "client"}}]})
    maps = world.node.manager.maps
    maps.rows[WEB] = evolve(maps.rows[WEB], entries={})  # type: ignore[attr-defined]
    realised = (await world.ask("red/client", "red/web"))["ingress"]["realised"]
    assert (realised["verdict"], realised["same"]) == ("denied", False)
    assert "not programmed yet" in realised["message"]
    maps.overflowed.add(WEB)
    realised = (await world.ask("red/client", "red/web"))["ingress"]["realised"]
    assert (realised["locked"], "bpf-policy-map-max" in realised["message"]) == (True, True)


@scenario
async def test_audit_mode_is_a_verdict_of_its_own(world: World) -> None:
    """What would be denied passes, and says so."""
    await world.apply({"fromEndpoints": [{"matchLabels": {"app": "other"}}]})
    assert (await world.ask("red/client", "red/web"))["verdict"] == "denied"
    world.audited.add(1)
    assert (await world.ask("red/client", "red/web"))["verdict"] == "audit"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"from": "red/nobody"}, "no pod, node, address"),
        ({"from": "identity:99999"}, "no identity 99999"),
        ({"port": "80/XYZ"}, "no protocol"),
        ({"port": "70000/TCP"}, "outside 0-65535"),
        ({"port": None, "icmp": "Nonsense"}, "no type of ICMP"),
        ({"icmp": "ping"}, "one of the two"),
        ({"port": None}, "one of the two"),
        ({"family": 5}, "family must be"),
        ({"family": 6}, "no address family in common"),
        ({"to": ""}, "to must be text"),
    ],
)
@scenario
async def test_bad_questions_are_refused(world: World, given: dict[str, Any], word: str) -> None:
    """In words that name what is wrong."""
    params = {"from": "red/client", "to": "red/web", "port": "80/TCP", **given}
    with pytest.raises(ApiError, match=word):
        await world.tracer.trace({k: v for k, v in params.items() if v is not None})


@pytest.mark.parametrize(
    ("peer", "name", "matches"),
    [
        (FqdnPeer(name="a.example.org"), "a.example.org", True),
        (FqdnPeer(name="a.example.org"), "b.example.org", False),
        (FqdnPeer(pattern="*.example.org"), "a.example.org", True),
        (FqdnPeer(pattern="*.example.org"), "b.a.example.org", False),
        (FqdnPeer(pattern="*.example.org"), "example.org", False),
        (FqdnPeer(pattern="**.example.org"), "b.a.example.org", True),
        (FqdnPeer(pattern="a*.example.org"), "axb.example.org", True),
        (FqdnPeer(pattern="*.example.org"), "a.exampleXorg", False),
        (FqdnPeer(pattern="*"), "a.example.org", True),
    ],
)
def test_patterns_match_as_documented(peer: FqdnPeer, name: str, matches: bool) -> None:
    """A star stands for characters of one label."""
    assert peer_matches(peer, name) is matches
