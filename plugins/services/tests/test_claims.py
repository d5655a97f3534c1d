"""Conflicts in a real operator, over a folder of manifests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from axoneme.core.model.objects import ObjectKey
from axoneme.core.testing.operators import OperatorBench, eventually
from axoneme.plugins.services.claims import (
    CONFLICT,
    NODE_PORT,
    claim_of,
    claims_table,
    show,
    taken,
)
from axoneme.plugins.services.manager import YOUNGEST
from axoneme.plugins.services.tests.test_manager import SMALL, apply, manager, web


def service(name: str, created: str, more: str = "externalIPs: [203.0.113.7]") -> str:
    """A service that somebody made at a time."""
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default, creationTimestamp: "{created}"}}
spec: {{ports: [{{port: 80}}], {more}}}
"""


def run(work: Callable[[OperatorBench], Awaitable[None]], folder: Path) -> None:
    """With a time limit."""
    bench = OperatorBench(folder, kube_proxy_replacement="true", plugins=ONLY)
    asyncio.run(asyncio.wait_for(work(bench), 60))


ONLY = "-ipam-cluster-pool -policy -tunnel -masquerade -native-routing -nodeport -socket-lb"
OLD, YOUNG = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def message(bench: OperatorBench, name: str) -> str:
    """Of the condition."""
    return str(bench.condition("Service", name, CONFLICT).get("message", ""))


def test_the_younger_service_is_told(tmp_path: Path) -> None:
    """Whoever was seen first; and no more when the older one lets go."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(service("young", YOUNG))
        async with bench.running():
            bench.apply(service("old", OLD))
            await eventually(lambda: message(bench, "young"))
            assert message(bench, "young") == (
                "203.0.113.7:80/TCP is default/old's, which is older"
            )
            assert not message(bench, "old")
            bench.apply(service("old", OLD, "externalIPs: [203.0.113.8]"))
            await eventually(lambda: not message(bench, "young"))

    run(work, tmp_path)


def test_what_is_removed_gives_way(tmp_path: Path) -> None:
    """A service that is deleted, while no operator ran."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(service("old", OLD))
        bench.apply(service("young", YOUNG, "type: NodePort, externalIPs: [203.0.113.7]"))
        async with bench.running():
            await eventually(lambda: message(bench, "young"))
        bench.store.delete(ObjectKey("Service", "default", "old"))
        async with bench.running():
            await eventually(lambda: not message(bench, "young"))

    run(work, tmp_path)


def test_ports_and_protocols_are_places_of_their_own(tmp_path: Path) -> None:
    """One address may serve several services; headless ones ask for nothing."""

    async def work(bench: OperatorBench) -> None:
        udp = "ports: [{port: 80, protocol: UDP}], externalIPs: [203.0.113.7]"
        bench.apply(service("old", OLD))
        bench.apply(service("udp", YOUNG, udp))
        bench.apply(service("headless", YOUNG, "clusterIP: None, externalIPs: [203.0.113.7]"))
        bench.apply(service("last", YOUNG))
        async with bench.running():
            await eventually(lambda: message(bench, "last"))
            assert not message(bench, "udp")
            assert not message(bench, "headless")

    run(work, tmp_path)


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from(["", "1", "2"]), SMALL),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=100, deadline=None)
def test_the_operator_says_what_agents_do(wanted: list[tuple[int, int, str, int]]) -> None:
    """Two programs decide who has a frontend: alike, also where nobody knows who is older."""
    made, claims = manager(), claims_table()
    for number, (cluster, outside, created, ports) in enumerate(wanted):
        row = evolve(
            web(number, cluster, 0, ports),
            created=created or YOUNGEST,
            external_ips=(ip_address(f"203.0.113.{outside}"),),
        )
        made.services.upsert(row)
        claims.upsert(claim_of(row))
    apply(made)
    claims.flush()
    for claim in claims:
        agents = {
            (str(k.address or NODE_PORT), k.port, k.proto): owner
            for k, owner in made.conflicts.get(claim.name, {}).items()
            if k.address not in made.node.addresses
        }
        assert {p: n for p, n in taken(claims, claim).items() if p[1]} == {
            p: n for p, n in agents.items() if p[1]
        }


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (("203.0.113.7", 80, 6), "203.0.113.7:80/TCP"),
        (("2001:db8::7", 53, 17), "[2001:db8::7]:53/UDP"),
        (("node port", 30080, 132), "node port 30080/SCTP"),
    ],
)
def test_places_read_well(place: tuple[str, int, int], text: str) -> None:
    """As in other views."""
    assert show(place) == text
