"""``axoneme migrate``: what a cluster's configuration of Cilium means here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.options import output_option
from axoneme.core.text import clean

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output
    from axoneme.core.migrate.plan import Row


@click.command("migrate")
@click.option("--dry-run", is_flag=True, help="Only compare; nothing else is done yet.")
@click.option(
    "--from",
    "place",
    type=click.Path(path_type=Path, exists=True),
    help="ConfigMap as YAML, folder of keys, or kubeconfig; else the cluster.",
)
@click.option("--namespace", "-n", default="kube-system", show_default=True, help="Of it.")
@click.option("--name", default="cilium-config", show_default=True, help="Of the ConfigMap.")
@click.option("--problems", is_flag=True, help="Only what wants a look.")
@output_option
def migrate(
    *, dry_run: bool, place: Path | None, namespace: str, name: str, problems: bool, output: Output
) -> int:
    """Compare the keys of an existing cilium-config with ours.

    maps: means the same here. differs: another range or default. none: no
    equivalent. unused: none either, but it has its default. Exits with 0 when
    every key maps or is unused, with 1 when one wants a look.

    \b
    axoneme migrate --dry-run
    axoneme migrate --dry-run --from cilium-config.yaml
    axoneme migrate --dry-run --from ~/.kube/config -o json
    """
    if not dry_run:
        raise click.UsageError("only --dry-run is there: nothing is ever changed")
    from collections import Counter

    from axoneme.core.migrate.plan import Verdict
    from axoneme.core.migrate.source import read

    rows, warnings = _compare(read(place, namespace, name))
    counts = Counter(row.verdict for row in rows)
    bad = [row for row in rows if row.verdict in (Verdict.NONE, Verdict.DIFFERS)]
    shown = bad if problems else rows
    output.emit(
        [row.as_dict() for row in shown],
        lambda: output.table(
            ["Key", "Value", "Verdict", "Note"],
            [(r.key, r.value, str(r.verdict), r.note) for r in shown],
            empty="every key maps",
        ),
    )
    for warning in warnings:
        click.echo(f"warning: {clean(warning)}", err=True)
    click.echo(", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict), err=True)
    return 1 if bad or warnings else 0


def _compare(values: Mapping[str, Any]) -> tuple[list[Row], list[str]]:
    """Rows, and what plugins say of the keys together."""
    from axoneme.core.boot import declare
    from axoneme.core.config import Config
    from axoneme.core.config_sources import RawConfig
    from axoneme.core.errors import AxonemeError
    from axoneme.core.migrate.flags import flags
    from axoneme.core.migrate.plan import accepted, plan

    registry, plugins = declare(RawConfig())
    rows = plan(values, registry, flags())
    config = Config.resolve(registry, accepted(rows))
    plugins.enable(config, policy="disable")
    warnings = []
    for name, check in plugins.each("axoneme_check_config"):
        try:
            check(config=config)
        except AxonemeError as error:
            warnings.append(f"plugin {name}: {error}")
    return rows, warnings
