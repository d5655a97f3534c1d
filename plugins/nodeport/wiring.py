"""Where XDP serves outsiders: on which devices, and what its status says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from axoneme.core.datapath.attachments import XDP_GENERIC, XDP_NATIVE, Attachment
from axoneme.core.status import Health
from axoneme.plugins.nodeport.config import ACCELERATION
from axoneme.plugins.nodeport.datapath import XDP_PROGRAM

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.status import StatusReport

HOOK: Final = "xdp"
SHOWN: Final = {"native": "Native", "best-effort": "Best-Effort", "testing-only": "Generic"}


class Acceleration:
    """XDP of one agent; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.mode = str(agent.config[ACCELERATION])

    def follow(self) -> None:
        """Rows for the native devices as they are now; none when it is off."""
        devices = self._agent.node.devices.devices if self.mode in SHOWN else ()
        flags = XDP_GENERIC if self.mode == "testing-only" else XDP_NATIVE
        optional = self.mode == "best-effort"
        rows = [
            Attachment(d.index, d.name, HOOK, XDP_PROGRAM, flags=flags, optional=optional)
            for d in devices
        ]
        self._agent.datapath.attachments.replace(rows, where=lambda row: row.hook == HOOK)

    def report(self, report: StatusReport) -> None:
        """Which devices have it."""
        title = "KubeProxyReplacement Details"
        if self.mode not in SHOWN:
            report.detail(title, ["XDP Acceleration: Disabled"])
            return
        declined = self._agent.datapath.target.declined
        reconciler = self._agent.reconcilers.get("attachments")  # none before the maps are there
        errors = reconciler.errors if reconciler is not None else {}
        rows = [r for r in self._agent.datapath.attachments.rows() if r.hook == HOOK]
        on = [r.ifname for r in rows if r.key not in declined and r.key not in errors]
        report.detail(title, [f"XDP Acceleration: {SHOWN[self.mode]} [{', '.join(on)}]"])
        wrong = [str(errors[r.key]) for r in rows if r.key in errors]
        if wrong:
            hint = f"{ACCELERATION}=best-effort goes without there"
            report.component("xdp", Health.FAILURE, f"{'; '.join(wrong)}; {hint}")
        elif declined:
            report.component("xdp", Health.OK, "; ".join(declined.values()))
        else:
            report.component("xdp", Health.OK)
