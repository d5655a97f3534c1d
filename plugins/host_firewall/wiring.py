"""The host firewall of one agent: the node as a subject, and its way to the API servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.endpoints.policy import PolicyGate
from axoneme.core.model.identity import Reserved
from axoneme.core.reconcile import Reconciler
from axoneme.core.reconcile.maps import MapTarget
from axoneme.core.status import StatusReport
from axoneme.plugins.host_firewall.datapath import (
    GUARD_MAP,
    Guarded,
    GuardKey,
    GuardValue,
    encode,
)

if TYPE_CHECKING:
    from axoneme.core.agent import Agent

APISERVER: Final = ("default", "kubernetes")
"""Namespace and name of the Service behind which the API servers are."""
SLICES: Final = "policy_slices"


class HostFirewall:
    """Follows the EndpointSlices of the API servers; policy does the rest."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._table = agent.tables.create("host_guard", Guarded, key=lambda r: (r.address, r.port))
        self._slices = agent.tables[SLICES]
        agent.services.get(PolicyGate).hold(int(Reserved.HOST))  # type: ignore[type-abstract]
        agent.subjects.add(int(Reserved.HOST))
        agent.add_reconciler(Reconciler("host_guard", self._table, GuardTarget(agent)))
        self._slices.subscribe(self._changed)

    def _changed(self, _: Any) -> None:
        rows = self._slices.find("service", APISERVER)
        self._table.replace({Guarded(a, p) for r in rows for a in r.addresses for p in r.ports})

    def report(self, report: StatusReport) -> None:
        """Line ``Host firewall``: where it stands, and what it always lets through."""
        names = [device.name for device in self._agent.node.devices.devices]
        state = f"Enabled   [{', '.join(names)}]"
        row = self._agent.tables["policy_entries"].get(int(Reserved.HOST))
        if row is not None:
            sides = {"ingress": row.ingress_enforced, "egress": row.egress_enforced}
            closed = [side for side, enforced in sides.items() if enforced]
            state += f", enforcing {' and '.join(closed) or 'nothing'}"
        report.line("Host firewall", state)


class GuardTarget:
    """:class:`axoneme.core.reconcile.Target`; the map is opened when it is first needed."""

    name = GUARD_MAP

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._lazy: MapTarget[Any, Guarded] | None = None

    def apply(
        self, upserts: Mapping[Any, Guarded], deletes: Mapping[Any, Guarded]
    ) -> Mapping[Any, Exception]:
        """Additions and changes first, then removals."""
        return self._target.apply(upserts, deletes)

    def resync(self, desired: Mapping[Any, Guarded]) -> Mapping[Any, Exception]:
        """Compare with the kernel, repair, sweep."""
        return self._target.resync(desired)

    @property
    def _target(self) -> MapTarget[Any, Guarded]:
        if self._lazy is None:
            typed = self._agent.datapath.typed(GUARD_MAP, GuardKey, GuardValue)
            self._lazy = MapTarget(GUARD_MAP, typed, encode)
        return self._lazy
