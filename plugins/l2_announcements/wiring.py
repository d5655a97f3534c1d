"""What the hooks of the plugin do with an agent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.reconcile import Reconciler
from axoneme.core.state import Table
from axoneme.core.status import Health
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.l2_announcements.compute import (
    Announcement,
    ServiceName,
    announcements,
    lease_name,
)
from axoneme.plugins.l2_announcements.config import timing
from axoneme.plugins.l2_announcements.datapath import MAP, AnswerTarget, L2Key, L2Value
from axoneme.plugins.l2_announcements.election import Candidate
from axoneme.plugins.l2_announcements.greet import greet
from axoneme.plugins.l2_announcements.policies import KIND, L2Policy, decode_policy

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.status import StatusReport

log = logging.getLogger(__name__)

GREETINGS: Final = (0.0, 0.5, 2.0)
"""Seconds after a take-over at which neighbours are told."""


class L2Announcer:
    """Announcements of one agent; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self.timing = timing(agent.config)
        self.policies: Table[str, L2Policy] = agent.tables.create(
            "l2_policies", L2Policy, key=lambda r: r.name
        )
        self.table: Table[Any, Announcement] = agent.tables.create(
            "l2_announcements", Announcement, key=lambda r: (r.address, r.ifindex)
        )
        self.wanted: dict[ServiceName, tuple[Announcement, ...]] = {}
        """What this node would announce."""
        self.candidates: dict[ServiceName, Candidate] = {}
        self._agent = agent
        self._changed = asyncio.Event()
        self.reflector = Reflector(agent.store, KIND, self.policies, decode_policy)
        agent.reflectors.append(self.reflector)
        agent.tasks.spawn("L2 policies", self.reflector.run)
        agent.tasks.spawn("L2 announcements", self._run)
        target = AnswerTarget(lambda: agent.datapath.typed(MAP, L2Key, L2Value))
        agent.add_reconciler(Reconciler("l2_announcements", self.table, target))
        for name in ("services", "service_ports", "nodes"):
            agent.tables[name].subscribe(lambda _: self.look())
        self.policies.subscribe(lambda _: self.look())

    def look(self) -> None:
        """Something that matters may have changed."""
        self._changed.set()

    async def _run(self) -> None:
        """One pass every retry period, and at once when something has changed."""
        await self._agent.ready.wait()
        try:
            while True:
                self._changed.clear()
                await self._compute()
                await asyncio.gather(*(self._try(n) for n in list(self.candidates)))
                self._publish()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.timing.retry):
                        await self._changed.wait()
        finally:
            with contextlib.suppress(Exception):
                await asyncio.shield(self._leave(list(self.candidates)))

    async def _compute(self) -> None:
        agent = self._agent
        row = agent.node.row
        ports = agent.tables["service_ports"].rows()
        local = {(p.key.namespace, p.key.service) for p in ports if p.chosen_local}
        self.wanted = announcements(
            agent.tables["services"].rows(),
            self.policies.rows(),
            dict(row.labels) if row is not None else {},
            agent.node.devices.devices,
            local,
        )
        await self._leave([n for n in self.candidates if n not in self.wanted])
        for name in self.wanted:
            if name not in self.candidates:
                acquire = partial(agent.store.acquire_lease, lease_name(name), agent.node_name)
                self.candidates[name] = Candidate(acquire, self.timing)

    async def _leave(self, names: list[ServiceName]) -> None:
        gone = [self.candidates.pop(name) for name in names]
        if gone:
            self._publish()  # silent first, then free for others
            for candidate in gone:
                with contextlib.suppress(Exception):
                    await candidate.release()

    async def _try(self, name: ServiceName) -> None:
        candidate = self.candidates[name]
        before = candidate.holds
        await candidate.tick(time.monotonic)
        if candidate.holds and not before:
            log.info("announces a service", extra={"service": "/".join(name)})
            asyncio.get_running_loop().create_task(self._greet(self.wanted.get(name, ())))
        elif before and not candidate.holds:
            log.info("announces a service no more", extra={"service": "/".join(name)})

    async def _greet(self, rows: tuple[Announcement, ...]) -> None:
        for wait in GREETINGS:
            await asyncio.sleep(wait)
            for row in rows:
                if self.table.get((row.address, row.ifindex)) is not None:
                    await asyncio.to_thread(greet, row.address, row.ifname, row.mac)

    def _publish(self) -> None:
        now = time.monotonic()
        self.table.replace(
            row
            for name, candidate in self.candidates.items()
            if candidate.check(now)
            for row in self.wanted.get(name, ())
        )

    def report(self, report: StatusReport) -> None:
        """Line ``L2 Announcements``, component ``l2-announcements``."""
        held = sum(c.holds for c in self.candidates.values())
        report.line(
            "L2 Announcements",
            f"Enabled   {len(self.policies)} policies, {len(self.wanted)} services here, "
            f"{held} announced by this node ({len(self.table)} addresses)",
        )
        problems = list(self.reflector.errors.values())
        health = Health.WARNING if problems else Health.OK
        report.component("l2-announcements", health, "; ".join(problems))

    def rows(self) -> list[Mapping[str, Any]]:
        """For ``axoneme l2 list``."""
        return [
            {
                "address": str(row.address),
                "interface": row.ifname,
                "mac": row.mac,
                "service": "/".join(row.service),
            }
            for row in sorted(self.table.rows(), key=lambda r: (str(r.address), r.ifname))
        ]

    def register_metrics(self, metrics: MetricRegistry) -> None:
        """How much is announced."""
        metrics.collect_gauge(
            "l2_announcements", "Addresses that this node answers for on a link", (),
            lambda: [((), float(len(self.table)))],
        )  # fmt: skip
