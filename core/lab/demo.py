"""``axoneme lab demo``: the whole thing in a few seconds; it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from axoneme.core.errors import LabError
from axoneme.core.lab import cleanup, controller, manifests, matrix, report, settle, start
from axoneme.core.lab.matrix import Cell
from axoneme.core.lab.model import Lab
from axoneme.core.lab.output import Output, clean
from axoneme.core.lab.paths import LabPaths
from axoneme.core.lab.stores import open_store

MANIFEST: Final = Path(__file__).parent / "examples" / "shop.yaml"


def run(output: Output, *, keep: bool = False) -> int:
    """Run the demo; 0 when the matrix is what the two policies say."""
    paths = LabPaths.current()
    if cleanup.anything_there(paths):
        raise LabError("a lab is there already", hint="end it with `axoneme lab down`")
    try:
        _title(output, "lab up --nodes 2")
        lab = start.up(paths, 2, {}, output)
        report.print_lab(lab, output)
        cells = _show(lab, output)
        return _judge(cells, output)
    finally:
        if keep:
            output.note("the lab goes on; end it with `axoneme lab down`")
        else:
            _title(output, "lab down")
            with output.step("remove the lab"):
                cleanup.tear_down(paths)


def _title(output: Output, command: str) -> None:
    output.print(f"\n[bold cyan]$ axoneme {command}[/]")


def _show(lab: Lab, output: Output) -> list[Cell]:
    """Apply the manifest, list the pods, probe every pair, print the drops."""
    store = open_store(lab)
    _title(output, f"lab apply -f {MANIFEST.name}")
    documents = manifests.read([MANIFEST], store, [n.name for n in lab.nodes])
    result = controller.apply(lab, store, documents, output)
    settle.wait(lab, store, output)
    if result.failures:
        raise LabError("; ".join(f"{n}: {m}" for n, m in result.failures.items()))
    _title(output, "lab pods")
    rows = report.pod_rows(lab, store)
    output.print(report.pod_table(rows))
    _title(output, "lab matrix")
    pods = matrix.places(lab)
    orders = matrix.orders(pods)
    with output.step(f"{len(orders)} probes among {len(pods)} pods"):
        cells = matrix.run(lab, orders)
    output.print(matrix.table(pods, cells))
    output.print(f"[dim]{matrix.legend(cells)}[/]")
    output.print("\n[bold cyan]drops, as the nodes reported them[/]")
    identities = {f"{r['namespace']}/{r['name']}": r["identity"] for r in rows}
    for line in drop_lines(cells, identities):
        output.print(line)
    return cells


def drop_lines(cells: Sequence[Cell], identities: dict[str, Any]) -> list[str]:
    """One line per denied pair: where, why, who, whom, what."""
    return [
        f"{pair.node or '-'} [red]{clean(why)}[/] "
        f"{clean(pair.source)} [dim](identity {identities.get(pair.source, '?')})[/] → "
        f"{clean(pair.target)} [dim](identity {identities.get(pair.target, '?')})[/] {pair.what}"
        for (verdict, why), pairs in matrix.refusals(cells).items()
        if verdict == "denied"
        for pair in pairs
    ]


def expected(source: str, target: str) -> bool:
    """What the two policies of the manifest say about two pods, by name."""
    callers = {"shop/api": "shop/web", "shop/db": "shop/api"}
    allowed = callers.get(target.partition("-")[0])
    return allowed is None or source.partition("-")[0] == allowed


def _judge(cells: Sequence[Cell], output: Output) -> int:
    """Compare the matrix with the policies."""
    wrong = [
        c
        for c in cells
        if (c.result.verdict == "allowed") != expected(c.order.source.name, c.order.target.name)
    ]
    for cell in wrong:
        order, result = cell.order, cell.result
        output.error(
            f"{order.source.name} → {order.target.name} IPv{order.family}: {result.verdict}, "
            f"which the policies do not say ({result.drop_reason or result.detail})"
        )
    if wrong:
        return 1
    denied = sum(c.result.verdict == "denied" for c in cells)
    output.print(
        f"\n[green]✓[/] {len(cells) - denied} allowed and {denied} denied, on both nodes and in "
        "both families, exactly as the policies say"
    )
    return 0
