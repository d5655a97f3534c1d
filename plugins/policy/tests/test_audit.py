"""Audit mode by endpoint: what is kept, what ends with the endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from axoneme.core.endpoints.tables import endpoint_table
from axoneme.core.errors import ApiError
from axoneme.core.live_options import LiveOptions
from axoneme.core.model.endpoint import Endpoint
from axoneme.core.state import TableRegistry
from axoneme.plugins.policy.audit import AuditMode, audit_table


def endpoint(number: int, attachment: str) -> Endpoint:
    link: Any = ("axo1", 5, "eth0", "/run/netns/x", "02:00:00:00:00:01", "02:00:00:00:00:02", 1500)
    address = IPv4Address(number)
    return Endpoint(number, attachment, "red", f"p{number}", address, None, *link)


class World:
    """An agent's tables over one file."""

    def __init__(self, path: Path, *endpoints: Endpoint, default: bool = False) -> None:
        tables = TableRegistry()
        self.table = audit_table(tables)
        self.endpoints = endpoint_table(tables)
        for row in endpoints:
            self.endpoints.upsert(row)
        self.mode = AuditMode(self.table, self.endpoints, path, default=default)
        self.options = LiveOptions()
        self.options.add(self.mode.option())


@pytest.fixture
def restart(tmp_path: Path) -> Callable[..., World]:
    """An agent that starts with what the last one kept."""

    def start(*endpoints: Endpoint, default: bool = False) -> World:
        return World(tmp_path / "audited.json", *endpoints, default=default)

    return start


ONE, TWO = endpoint(7, "c1:eth0"), endpoint(8, "c2:eth0")


def test_an_endpoints_switch_survives_the_agent(restart: Callable[..., World]) -> None:
    """The node's does not: the configuration says what it is at a start."""

    async def work() -> None:
        world = restart(ONE, TWO)
        assert world.options.change("policyauditmode", "on", 7)
        assert not world.options.change("PolicyAuditMode", "Enabled", 7)
        world.options.change("PolicyAuditMode", "Enabled")
        assert world.mode.audits(8)
        world = restart(ONE, TWO)
        world.mode.prune()
        assert world.mode.audits(7) and not world.mode.audits(8) and len(world.mode) == 1
        assert restart(ONE, default=True).mode.audits(8)
        world.options.change("PolicyAuditMode", "Disabled", 7)
        assert not restart(ONE).mode.audits(7)

    asyncio.run(work())


def test_it_ends_with_the_endpoint(restart: Callable[..., World]) -> None:
    """Also while no agent runs, and when another endpoint has its number by then."""

    async def work() -> None:
        world = restart(ONE, TWO)
        for number in (7, 8):
            world.options.change("PolicyAuditMode", "Enabled", number)
        world.endpoints.delete(8)
        world.endpoints.flush()
        assert not world.mode.audits(8)
        world = restart(evolve(ONE, attachment_id="c9:eth0"))
        world.mode.prune()
        assert not world.mode.audits(7) and len(restart(ONE).mode) == 0

    asyncio.run(work())


def test_a_bad_file_audits_nobody(tmp_path: Path) -> None:
    """It fails closed."""
    path = tmp_path / "audited.json"
    for text in ("{", "[1]", '{"x": 1}'):
        path.write_text(text)
        assert not World(path, ONE).mode.audits(7)


def test_bad_options_are_refused(restart: Callable[..., World]) -> None:
    """By name, with what there is."""

    async def work() -> None:
        world = restart(ONE)
        with pytest.raises(ApiError, match="PolicyAuditMode: 'maybe' is not one of"):
            world.options.change("PolicyAuditMode", "maybe")
        with pytest.raises(ApiError, match="no option 'PolicyAuditMod'") as caught:
            world.options.change("PolicyAuditMod", "Enabled")
        assert "did you mean PolicyAuditMode" in caught.value.hint
        assert [o["value"] for o in world.options.view(7)] == ["Disabled"]

    asyncio.run(work())
