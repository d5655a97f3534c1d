"""A noun that also works without a verb: ``axoneme config``, and ``axoneme config drift``."""

from __future__ import annotations

from typing import Any

import click

from axoneme.core.cli.nouns import Noun


class DefaultVerb(Noun):
    """What is no verb of the noun goes to ``default``, options too, and help shows both."""

    def __init__(self, name: str, default: click.Command) -> None:
        super().__init__(name, help=default.help, no_args_is_help=False)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put an empty verb in front of what is meant for the default."""
        known = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if known else ["", *args])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The default for the empty verb."""
        if args[0] == "":
            return "", self.default, args[1:]
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The default's help, and the verbs."""
        inner: Any = click.Context(self.default, info_name=ctx.info_name, parent=ctx.parent)
        self.default.format_usage(inner, formatter)
        self.default.format_help_text(inner, formatter)
        self.default.format_options(inner, formatter)
        self.format_commands(ctx, formatter)
