"""What the lab prints while it works: one line a step, with a spinner and colour on a terminal.

Progress goes to standard error, results to standard output, so ``-o json`` stays clean.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

PIPE_WIDTH: Final = 1000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: object) -> str:
    """Text from outside without control characters, and harmless to rich's markup."""
    return escape(_CONTROL.sub("", str(text)))


def count(number: int, noun: str) -> str:
    """``1 pod``, ``2 pods``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Output:
    """Progress and messages of one command."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)
        # A pipe has no width: nothing is to be cut off there.
        self.out = Console(
            highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH
        )
        self.quiet = quiet

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Announce work in progress; on its end say how long it took."""
        start = time.monotonic()
        if self.quiet:
            yield
            return
        if self.err.is_terminal:
            with self.err.status(clean(text)):
                yield
        else:
            yield
        elapsed = time.monotonic() - start
        self.err.print(f"[green]✓[/] {clean(text)} [dim]({elapsed:.2f} s)[/]")

    def note(self, text: str) -> None:
        """A line about what happened."""
        if not self.quiet:
            self.err.print(clean(text))

    def warning(self, text: str) -> None:
        """A line that wants attention; printed also when quiet."""
        self.err.print(f"[yellow]warning:[/] {clean(text)}")

    def error(self, text: str) -> None:
        """A line about what failed; printed also when quiet."""
        self.err.print(f"[red]error:[/] {clean(text)}")

    def print(self, *parts: Any) -> None:
        """A result."""
        self.out.print(*parts)
