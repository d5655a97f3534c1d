"""``axoneme version``: what is installed and what it runs on."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import click

from axoneme.core.cli.options import output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


@click.command("version")
@output_option
def version(*, output: Output) -> None:
    """Show the version, the hook API, Python and the kernel.

    \b
    axoneme version
    axoneme version -o json
    """
    from importlib.metadata import version as installed

    from axoneme.hooks import API_VERSION

    data = {
        "version": installed("axoneme"),
        "hook-api": API_VERSION,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
    }
    output.emit(
        data,
        lambda: output.line(
            f"axoneme {data['version']} (hook API {data['hook-api']},"
            f" Python {data['python']}, Linux {data['kernel']} {data['machine']})"
        ),
    )
