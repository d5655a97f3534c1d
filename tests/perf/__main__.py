"""``make bench``: run the benchmarks, print a table of ratios, write JSON and a chart."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.perf import (
    balancing,
    connections,
    engine,
    k8s_scale,
    life,
    policy,
    programs,
    report,
    traffic,
    xdp,
)
from tests.perf.measure import Result

ALL = ("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P12", "P13", "XDP", "engine")
MODULES = (programs, traffic, connections, balancing, xdp, policy, engine, k8s_scale, life)


def _machine() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "kernel": platform.release(),
        "cpus": str(os.cpu_count()),
        "python": platform.python_version(),
        "commit": commit,
    }


@click.command()
@click.argument("numbers", nargs=-1)
@click.option("--repetitions", default=5, show_default=True, help="Of each measurement.")
@click.option("--out", default="build/bench", show_default=True, type=click.Path(path_type=Path))
def main(numbers: tuple[str, ...], repetitions: int, out: Path) -> None:
    """Measure NUMBERS (P1 to P10, P12, P13, XDP, engine; default all), against plain networking."""
    wanted = set(numbers or ALL)
    unknown = wanted - set(ALL)
    if unknown:
        raise click.UsageError(f"no benchmark {', '.join(sorted(unknown))}")
    results: list[Result] = []

    def note(text: str) -> None:
        click.echo(f"  {text}", err=True)

    with tempfile.TemporaryDirectory(prefix="axob-") as name:
        for module in MODULES:
            for result in module.bench(Path(name), repetitions, note, wanted):
                results.append(result)
                click.echo(f"{result.number} {result.what}: {result.ours.median:.2f}", err=True)
    report.show(results)
    click.echo(f"written: {report.write(results, out, _machine())}", err=True)
    if any(r.met is False for r in results):
        click.echo("some targets are not met", err=True)


if __name__ == "__main__":
    sys.exit(main())
