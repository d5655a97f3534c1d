"""``axoneme fqdn``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from axoneme.core.cli.nouns import noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


def register(root: click.Group) -> None:
    """Add the verbs."""
    fqdn = noun(root, "fqdn", "Show what names stand for.")
    cache = noun(fqdn, "cache", "Show or forget what endpoints were told.")
    cache.add_command(list_cache)
    cache.add_command(clean_cache)
    fqdn.add_command(list_names)


@click.command("list")
@output_option
@agent_options
def list_cache(*, agent: AgentHandle, output: Output) -> None:
    """Names that endpoints were told, and what rules make of them.

    \b
    axoneme fqdn cache list
    """
    rows = agent.call("fqdn.cache")
    output.emit(
        rows,
        lambda: output.table(
            ["ENDPOINT", "NAME", "IP", "TTL", "SELECTORS"],
            [[r["endpoint"], r["name"], r["address"], r["seconds"], r["selectors"]] for r in rows],
            empty="no names",
        ),
    )


@click.command("clean")
@output_option
@agent_options
def clean_cache(*, agent: AgentHandle, output: Output) -> None:
    """Forget all names: addresses are reached by name again after the next look-up.

    \b
    axoneme fqdn cache clean
    """
    done = agent.call("fqdn.clean")
    output.emit(done, lambda: output.line(f"{done['addresses']} addresses forgotten"))


@click.command("names")
@output_option
@agent_options
def list_names(*, agent: AgentHandle, output: Output) -> None:
    """Names that rules ask for, and the addresses that stand for them now.

    \b
    axoneme fqdn names
    """
    rows = agent.call("fqdn.names")
    output.emit(
        rows,
        lambda: output.table(
            ["SELECTOR", "KIND", "ADDRESSES"],
            [[r["selector"], r["kind"], r["addresses"]] for r in rows],
            empty="no rule asks for a name",
        ),
    )
