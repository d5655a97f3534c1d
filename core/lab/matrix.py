"""Every pair of pods probed at once, in both families, and the table of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from attrs import define, field, frozen
from rich.table import Table
from rich.text import Text

from axoneme.core.lab import probe
from axoneme.core.lab.model import Lab
from axoneme.core.lab.targets import Place, pod_place

STYLE = {"allowed": ("✓", "green"), "denied": ("✗", "red"), "error": ("!", "yellow")}
SHOWN: Final = 5
"""Lines a reason, unless all are asked for."""


@frozen
class Cell:
    """One attempt of the matrix and what came of it."""

    order: probe.Order
    result: probe.Result

    def as_dict(self) -> dict[str, Any]:
        """One element of the JSON list."""
        order = self.order
        return {
            "from": order.source.name,
            "to": order.target.name,
            "family": order.family,
            "proto": order.proto,
            "port": order.port,
            **self.result.as_dict(),
        }


def places(lab: Lab, namespace: str = "") -> list[Place]:
    """The pods to probe."""
    return [pod_place(r) for r in lab.pods() if r.addresses and namespace in ("", r.namespace)]


def orders(pods: Sequence[Place], *, port: int = 0, proto: str = "") -> list[probe.Order]:
    """Every ordered pair, each common family, each declared port (an echo where there is none)."""
    found = []
    for source in pods:
        for target in pods:
            if source == target:
                continue
            for family in (4, 6):
                if source.address(family) and target.address(family):
                    for number, protocol in _ports(target, port, proto):
                        found.append(probe.Order(source, target, family, protocol, number))
    return found


def with_others(
    pods: Sequence[Place], others: Sequence[Place], *, port: int = 0, proto: str = ""
) -> list[probe.Order]:
    """Between each pod and places that are none; from outside the cluster no way leads to pods."""
    found = []
    for pod in pods:
        for other in others:
            both = orders([pod, other], port=port, proto=proto)
            found += [o for o in both if o.source == pod or other.kind == "node"]
    return found


def _ports(target: Place, port: int, proto: str) -> list[tuple[int, str]]:
    if proto == "icmp":
        return [(0, "icmp")]
    declared = [(n, p.lower()) for n, p in target.ports if p.lower() in probe.PROTOCOLS]
    if port:
        matching = [(n, p) for n, p in declared if n == port and proto in ("", p)]
        return matching or [(port, proto or "tcp")]
    return [(n, p) for n, p in declared if proto in ("", p)] or [(0, "icmp")]


def run(lab: Lab, wanted: Sequence[probe.Order]) -> list[Cell]:
    """Make all attempts."""
    return [Cell(o, r) for o, r in zip(wanted, probe.run(lab, wanted), strict=True)]


def table(pods: Sequence[Place], cells: Iterable[Cell]) -> Table:
    """Rows are sources, numbered columns destinations; one mark per family (and port)."""
    by_pair: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        by_pair.setdefault((cell.order.source.name, cell.order.target.name), []).append(cell)
    result = Table(box=None, pad_edge=False, header_style="bold")
    result.add_column("", justify="right", style="dim")
    result.add_column("FROM / TO", overflow="fold")
    result.add_column("NODE", style="dim", no_wrap=True)
    for number in range(1, len(pods) + 1):
        result.add_column(str(number), justify="center", no_wrap=True)
    for number, source in enumerate(pods, 1):
        marks = [_mark(by_pair.get((source.name, target.name), [])) for target in pods]
        result.add_row(str(number), source.name, source.node, *marks)
    return result


def _mark(cells: Sequence[Cell]) -> Text:
    """``✓✗`` for one port; several ports each with its number when they differ."""
    if not cells:
        return Text("·", style="dim")
    ports: dict[tuple[int, str], list[Cell]] = {}
    for cell in cells:
        ports.setdefault((cell.order.port, cell.order.proto), []).append(cell)
    verdicts = {
        tuple((c.order.family, c.result.verdict) for c in group) for group in ports.values()
    }
    if len(verdicts) == 1:
        return _marks(next(iter(ports.values())))
    lines = [
        Text.assemble((f"{port or proto} ", "dim"), _marks(group))
        for (port, proto), group in ports.items()
    ]
    return Text("\n").join(lines)


def _marks(cells: Sequence[Cell]) -> Text:
    text = Text()
    for cell in sorted(cells, key=lambda c: c.order.family):
        mark, style = STYLE[cell.result.verdict]
        text.append(mark, style=style)
    return text


def legend(cells: Iterable[Cell]) -> str:
    """What the marks mean."""
    families = sorted({cell.order.family for cell in cells})
    which = "IPv4 then IPv6" if len(families) != 1 else f"IPv{families[0]}"
    return (
        f"one mark per family, {which}: [green]✓[/] allowed  [red]✗[/] denied  [yellow]![/] error"
    )


@define
class Refused:
    """The attempts between two ends that came to the same bad end."""

    source: str
    target: str
    node: str
    """Who reported the drop, if anybody did."""
    ports: list[str] = field(factory=list)
    families: list[int] = field(factory=list)

    def add(self, order: probe.Order) -> None:
        """Take in one more attempt."""
        port = f"{order.proto.upper()} {order.port}" if order.port else order.proto.upper()
        if port not in self.ports:
            self.ports.append(port)
        if order.family not in self.families:
            self.families.append(order.family)

    @property
    def what(self) -> str:
        """Ports and families."""
        return f"{', '.join(self.ports)} {'+'.join(f'IPv{f}' for f in sorted(self.families))}"


def refusals(cells: Iterable[Cell]) -> dict[tuple[str, str], list[Refused]]:
    """What was not allowed, by verdict and reason, families and ports of a pair together.

    Ports share a line only where the same families of each were refused.
    """
    attempts: dict[tuple[str, ...], list[probe.Order]] = {}
    for cell in cells:
        order, result = cell.order, cell.result
        if result.verdict != "allowed":
            why = result.drop_reason or result.detail
            node = result.drop.node if result.drop else ""
            key = (result.verdict, why, order.source.name, order.target.name, node)
            attempts.setdefault(key, []).append(order)
    found: dict[tuple[str, str], list[Refused]] = {}
    for (verdict, why, source, target, node), orders in attempts.items():
        ports: dict[tuple[int, str], list[probe.Order]] = {}
        for order in orders:
            ports.setdefault((order.port, order.proto), []).append(order)
        lines: dict[tuple[int, ...], Refused] = {}
        for group in ports.values():
            families = tuple(sorted(order.family for order in group))
            line = lines.setdefault(families, Refused(source, target, node))
            for order in group:
                line.add(order)
        found.setdefault((verdict, why), []).extend(lines.values())
    return found


def reasons(cells: Sequence[Cell], limit: int | None = SHOWN) -> list[str]:
    """Who could not reach whom, by reason; ``limit`` lines a reason, all when it is ``None``."""
    lines, hidden = [], False
    for (verdict, why), pairs in refusals(cells).items():
        lines.append(f"{verdict}, {why}:" if why else f"{verdict}:")
        for pair in pairs[:limit]:
            where = f" (on {pair.node})" if pair.node else ""
            lines.append(f"  {pair.source} → {pair.target} {pair.what}{where}")
        if limit is not None and len(pairs) > limit:
            lines.append(f"  … {len(pairs) - limit} more")
            hidden = True
    if hidden:
        lines.append("-v or -o json shows all")
    return lines
