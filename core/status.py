"""The status of one process: labelled lines in a fixed order, components with their health.

The lines have the labels and the order of ``cilium-dbg status``, so that eyes and scripts find
them; a label that Cilium does not have comes after those. The overall health is the worst of the
components.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

from attrs import Factory, define, frozen

LABELS: Final = (
    "KVStore",
    "Kubernetes",
    "Kubernetes APIs",
    "Store",
    "KubeProxyReplacement",
    "Host firewall",
    "SRv6",
    "CNI Chaining",
    "CNI Config file",
    "Axoneme",
    "Stale status",
    "NodeMonitor",
    "Health daemon",
    "IPAM",
    "Allocated addresses",
    "ClusterMesh",
    "IPv4 BIG TCP",
    "IPv6 BIG TCP",
    "BandwidthManager",
    "Routing",
    "Attach Mode",
    "Device Mode",
    "Masquerading",
    "Clock Source for BPF",
    "Controller Status",
    "Proxy Status",
    "Global Identity Range",
    "Hubble",
    "Encryption",
    "Cluster health",
    "Plugins",
)


class Health(StrEnum):
    """From best to worst; ``disabled`` says nothing about the whole."""

    DISABLED = "Disabled"
    OK = "Ok"
    WARNING = "Warning"
    FAILURE = "Failure"


_RANK: Final = {health: rank for rank, health in enumerate(Health)}


@frozen
class Component:
    """One part of the process and how it is."""

    name: str
    health: Health
    message: str = ""


@define
class StatusReport:
    """Filled by the core and by plugins through ``axoneme_report_status``."""

    _lines: dict[str, str] = Factory(dict)
    _components: dict[str, Component] = Factory(dict)
    _details: dict[str, list[str]] = Factory(dict)

    def line(self, label: str, text: str) -> None:
        """Set the line of a label; labels that :data:`LABELS` does not have come last."""
        self._lines[label] = text

    def component(self, name: str, health: Health | str, message: str = "") -> None:
        """Set the health of a component of this node."""
        self._components[name] = Component(name, Health(health), message)

    def detail(self, title: str, lines: Iterable[str]) -> None:
        """Add a paragraph that only ``--verbose`` shows; nothing when there is no line."""
        if found := list(lines):
            self._details.setdefault(title, []).extend(found)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Labels and texts in order."""
        known = [label for label in LABELS if label in self._lines]
        other = [label for label in self._lines if label not in LABELS]
        return [(label, self._lines[label]) for label in known + other]

    @property
    def components(self) -> list[Component]:
        """Components by name."""
        return [component for _, component in sorted(self._components.items())]

    @property
    def details(self) -> dict[str, list[str]]:
        """Paragraphs for ``--verbose``: title and lines."""
        return {title: list(lines) for title, lines in self._details.items()}

    @property
    def health(self) -> Health:
        """The worst of the components; ok when there is none."""
        worst = max((_RANK[c.health] for c in self._components.values()), default=0)
        return max(Health.OK, list(Health)[worst], key=lambda health: _RANK[health])

    @property
    def problems(self) -> list[Component]:
        """Components with a warning or a failure, the worst first."""
        bad = [c for c in self.components if _RANK[c.health] > _RANK[Health.OK]]
        return sorted(bad, key=lambda c: -_RANK[c.health])

    def as_dict(self) -> dict[str, Any]:
        """For the API: ``health``, ``lines``, ``components``, ``details``."""
        return {
            "health": str(self.health),
            "lines": [{"label": label, "text": text} for label, text in self.lines],
            "components": [
                {"name": c.name, "health": str(c.health), "message": c.message}
                for c in self.components
            ],
            "details": [{"title": t, "lines": lines} for t, lines in self._details.items()],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StatusReport:
        """The reverse of :meth:`as_dict`."""
        report = cls()
        for line in data.get("lines", ()):
            report.line(line["label"], line["text"])
        for c in data.get("components", ()):
            report.component(c["name"], c["health"], c.get("message", ""))
        for detail in data.get("details", ()):
            report.detail(detail["title"], detail["lines"])
        return report
