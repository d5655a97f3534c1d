"""What the hooks of the plugin do with an agent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from axoneme.core.model.balancing import ExtraServices, Redirect, ServiceName
from axoneme.core.state import Table
from axoneme.core.status import Health
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.local_redirect.compute import (
    SOURCE,
    address_rows,
    local_addresses,
    redirects,
)
from axoneme.plugins.local_redirect.policies import KIND, RedirectPolicy, decode_policy

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.status import StatusReport


class LocalRedirects:
    """Redirect policies of one agent; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self.policies: Table[ServiceName, RedirectPolicy] = agent.tables.create(
            "redirect_policies", RedirectPolicy, key=lambda r: r.name
        )
        self._agent = agent
        self._redirects: Table[Any, Redirect] = agent.tables["service_redirects"]
        self._offered: set[str] = set()
        self._changed = asyncio.Event()
        allowed = [ip_network(t) for t in agent.config["lrp-address-matcher-cidrs"]]
        self.reflector = Reflector(
            agent.store, KIND, self.policies, partial(decode_policy, allowed=allowed)
        )
        agent.reflectors.append(self.reflector)
        agent.required.append(self.policies)
        agent.tasks.spawn("redirect policies", self.reflector.run)
        agent.tasks.spawn("local redirects", self._follow)
        for name in ("pods", "endpoints", "services"):
            agent.tables[name].subscribe(lambda _: self._changed.set())
        self.policies.subscribe(lambda _: self._changed.set())

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self.compute()
            await asyncio.sleep(0.05)  # pods come in crowds

    def compute(self) -> None:
        """All rows anew: policies are few."""
        tables = self._agent.tables
        pods, endpoints = tables["pods"].rows(), tables["endpoints"].rows()
        rows: list[Redirect] = []
        offered: set[str] = set()
        extra = self._agent.services.get(ExtraServices)  # type: ignore[type-abstract]
        for policy in self.policies:
            addresses = local_addresses(policy, pods, endpoints)
            if policy.service:
                service = tables["services"].get((policy.name[0], policy.service))
                if service is not None:
                    rows += redirects(policy, service.ports, addresses)
            else:
                name = "/".join(policy.name)
                offered.add(name)
                extra.offer(SOURCE, name, address_rows(policy, addresses))
        for name in self._offered - offered:
            extra.offer(SOURCE, name, ())
        self._offered = offered
        self._redirects.replace(rows)

    def rows(self) -> list[Mapping[str, Any]]:
        """For ``axoneme lrp list``."""
        found: list[Mapping[str, Any]] = []
        active = {r.policy: r for r in self._redirects}
        for policy in sorted(self.policies, key=lambda p: p.name):
            name = "/".join(policy.name)
            row = active.get(name)
            backends = [f"{a}:{p}" for a, p in row.backends] if row else []
            front = policy.service or str(policy.address)
            kind = "service" if policy.service else "address"
            found.append({"name": name, "type": kind, "frontend": front, "backends": backends})
        return found

    def report(self, report: StatusReport) -> None:
        """Component ``local-redirect``."""
        problems = list(self.reflector.errors.values())
        report.line("Local Redirect", f"Enabled   {len(self.policies)} policies")
        health = Health.WARNING if problems else Health.OK
        report.component("local-redirect", health, "; ".join(problems))
