"""``axoneme``: the root of the command line. Exit codes: 0 done, 1 failure, 2 wrong usage."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from axoneme.core.cli.nouns import Root
from axoneme.core.errors import AxonemeError
from axoneme.core.text import clean

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 79}


@click.group(
    "axoneme",
    cls=Root,
    context_settings=CONTEXT,
    epilog="Examples: axoneme lab up; axoneme status --node node1; axoneme monitor -t drop",
)
@click.option("--node", metavar="NODE", help="Node of the lab, for every command.")
@click.option("--socket", metavar="PATH", help="Socket of the agent, for every command.")
def cli(node: str | None, socket: str | None) -> None:
    """Networking, security and observability on eBPF, out of plugins.

    Commands are a noun and a verb: axoneme endpoint list. Most take
    -o json or -o yaml.
    """
    # A plugin's commands may use a client of their own: the environment reaches all of them.
    if node:
        os.environ["AXONEME_NODE"] = node
        os.environ.pop("AXONEME_SOCKET", None)
    if socket:
        os.environ["AXONEME_SOCKET"] = socket


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code."""
    try:
        result = cli.main(
            list(arguments) if arguments is not None else None,
            prog_name="axoneme",
            standalone_mode=False,
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.UsageError as error:
        path = error.ctx.command_path.rstrip() if error.ctx else "axoneme"
        return complain(f"{path}: {error.format_message()}", 2)
    except click.ClickException as error:
        return complain(error.format_message(), 1)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader has seen enough; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except AxonemeError as error:
        return complain(str(error), 1)
    except Exception as error:
        if os.environ.get("AXONEME_DEBUG"):
            raise
        text = f"internal error: {type(error).__name__}: {error}"
        return complain(f"{text} (AXONEME_DEBUG=1 shows where)", 1)


def complain(text: str, code: int) -> int:
    """One line on stderr, and the exit code."""
    line = clean(" ".join(text.split()))
    click.echo(click.style("error: ", fg="red") + line, err=True)
    return code
