"""Results as a table, as JSON, and as a chart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import attrs
from rich.console import Console
from rich.table import Table

from tests.perf.measure import Result


def _row(result: Result) -> tuple[str, ...]:
    ratio = f"{result.ratio:.2f}" if result.ratio is not None else ""
    plain = f"{result.plain.median:,.2f}" if result.plain else ""
    met = {True: "yes", False: "no", None: ""}[result.met]
    return (
        result.number,
        result.what,
        f"{result.ours.median:,.2f} {result.unit}",
        plain,
        ratio,
        f"{result.ours.spread:.0%}",
        result.target,
        met,
    )


def show(results: Sequence[Result]) -> None:
    """Print the table."""
    table = Table(title="Axoneme against the kernel alone (medians)")
    for heading in ("", "what", "axoneme", "plain", "ratio", "spread", "target", "met"):
        table.add_column(heading, justify="right" if heading in ("axoneme", "plain") else "left")
    for result in results:
        table.add_row(*_row(result))
    Console().print(table)


def write(results: Sequence[Result], folder: Path, machine: dict[str, str]) -> Path:
    """Write ``bench.json`` and ``bench.svg``; returns the former's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [attrs.asdict(r) | {"ratio": r.ratio} for r in results]
    path = folder / "bench.json"
    path.write_text(json.dumps({"machine": machine, "results": rows}, indent=1) + "\n")
    chart(results, folder / "bench.svg")
    return path


def chart(results: Sequence[Result], path: Path) -> None:
    """Bars of the ratios, with a line at one."""
    import pygal

    rows = [r for r in results if r.ratio is not None]
    if not rows:
        return
    bars = pygal.HorizontalBar(
        title="axoneme / plain kernel networking",
        show_legend=False,
        range=(0, max(1.2, *(r.ratio or 0 for r in rows))),
        print_values=True,
        formatter=lambda v: f"{v:.2f}",
    )
    bars.x_labels = [f"{r.number} {r.what}" for r in rows]
    bars.add("ratio", [r.ratio for r in rows])
    bars.render_to_file(str(path))
