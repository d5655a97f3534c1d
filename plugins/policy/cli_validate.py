"""``axoneme policy validate``: policy files checked without an agent, for people and for CI."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from axoneme.core.cli.options import Given, config_options, output_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from axoneme.core.cli.output import Output
    from axoneme.core.model.objects import ClusterObject
    from axoneme.core.model.policy import Rule
    from axoneme.plugins.policy.validate import Finding, Report

FILES = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Manifest file or folder, - for standard input; may be repeated.",
)


@click.command("validate")
@FILES
@click.option("--strict", is_flag=True, help="Also fail for what is valid but not enforced.")
@config_options
@output_option
def validate(files: tuple[Path, ...], strict: bool, *, given: Given, output: Output) -> None:
    """Check policy files; needs no agent, no cluster and no root.

    Every document of a policy kind is read as an agent with this configuration
    would read it. Exit code 0: all good; 1: something is wrong.

    \b
    axoneme policy validate -f policies/
    axoneme policy validate -f web.yaml -f db.yaml --strict -o json
    """
    report = inspect(files, given)
    failed = report.failed(strict=strict)
    output.emit(report.as_dict(), lambda: _show(report, output, strict=strict))
    if failed:
        sys.stdout.flush()
        raise click.exceptions.Exit(1)


def inspect(files: tuple[Path, ...], given: Given) -> Report:
    """The report on some files, with the decoders of the plugins that are on."""
    from axoneme.core.model.l7 import L7Registry
    from axoneme.core.store.kinds import KindRegistry
    from axoneme.plugins.policy.enforce import Abilities
    from axoneme.plugins.policy.referents import decode_group
    from axoneme.plugins.policy.validate import GROUP, check
    from axoneme.plugins.policy.wiring import decode_by_hook

    config, plugins = given.boot()
    kinds = KindRegistry()
    plugins.hook.axoneme_register_kinds(kinds=kinds)
    protocols = L7Registry()
    plugins.hook.axoneme_register_l7(protocols=protocols, config=config)
    able = Abilities(protocols, nodes=True, host=True)  # what a cluster may have switched on
    rules_of = decode_by_hook(plugins, able)

    def decode(obj: ClusterObject) -> Sequence[Rule]:
        if obj.key.kind == GROUP:
            decode_group(obj)
            return ()
        return rules_of(obj)

    return check(files, kinds, decode)


def _show(report: Report, output: Output, *, strict: bool) -> None:
    for finding in report.findings:
        _show_finding(finding, output, strict=strict)
    for note in report.skipped:
        output.line(f"skipped: {note}")
    counts = report.as_dict()
    output.line(
        f"{report.policies} policies with {report.rules} rules in {report.files} files: "
        f"{counts['errors']} errors, {counts['warnings']} warnings"
    )


def _show_finding(finding: Finding, output: Output, *, strict: bool) -> None:
    place = f"{finding.file}:{finding.line}:{finding.column}" if finding.line else finding.file
    colour = "red" if strict or finding.severity == "error" else "yellow"
    name = f": {finding.object}" if finding.object else ""
    output.line(f"{place}: {finding.severity}{name}", colour)
    text = f"{finding.field}: {finding.message}" if finding.field else finding.message
    for part in (text, finding.hint):
        wrapped = textwrap.wrap(part, min(output.width, 80) - 4, break_on_hyphens=False)
        for line in wrapped if output.terminal else [part] if part else []:
            output.line(f"    {line}")
