"""Output of commands: tables that fit the terminal, JSON, YAML; colour only on a terminal.

Every cell is cleaned of control characters (CVE-2025-48056), JSON and YAML come out as ASCII, so
nothing that a pod's name or label holds can drive the reader's terminal.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TextIO

import click

from axoneme.core.text import clean

Cell = str | int | float | bool | None | Sequence[str]
"""A sequence of texts takes one line each."""

MIN_WIDTH: Final = 5
PADDING: Final = 3
NARROWEST: Final = 12
"""A column is never made narrower than this to fit the terminal."""

GOOD: Final = frozenset(
    {"ready", "ok", "on", "true", "running", "done", "enabled", "allowed", "forwarded", "healthy"}
)
BAD: Final = frozenset(
    {"failed", "failure", "error", "invalid", "denied", "dropped", "not-ready", "disconnected"}
)
DOUBTFUL: Final = frozenset(
    {"warning", "waiting", "waiting-for-identity", "regenerating", "restoring", "creating"}
)


def colour_of(word: str) -> str | None:
    """Green, red or yellow for the words of states, else none."""
    word = word.lower()
    if word in GOOD:
        return "green"
    if word in BAD:
        return "red"
    return "yellow" if word in DOUBTFUL else None


def width_of(text: str) -> int:
    """Columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


class Output:
    """Where a command prints. ``form`` is table, json or yaml."""

    def __init__(self, form: str = "table", stream: TextIO | None = None) -> None:
        self.form = form
        self.stream = stream or sys.stdout
        self.terminal = self.stream.isatty()
        self.colours = self.terminal and not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int:
        """Columns of the terminal; without one there is no limit."""
        return shutil.get_terminal_size((100, 25)).columns if self.terminal else 1 << 30

    def emit(self, data: Any, show: Callable[[], None]) -> None:
        """Print ``data`` as JSON or YAML, or call ``show``, which prints for people."""
        if self.form == "json":
            import json

            self.stream.write(json.dumps(data, indent=2) + "\n")
        elif self.form == "yaml":
            import yaml

            yaml.safe_dump(data, self.stream, sort_keys=False, default_flow_style=False)
        else:
            show()

    def line(self, text: str = "", colour: str | None = None) -> None:
        """One line for people."""
        text = clean(text)
        self.stream.write((self.paint(text, colour) if colour else text) + "\n")

    def labelled(self, label: str, text: str, width: int = 24) -> None:
        """``Label:    text``, the first word in the colour of its meaning."""
        first, blank, rest = clean(text).partition(" ")
        shown = self.paint(first, colour_of(first)) + blank + rest
        self.stream.write(f"{clean(label) + ':':<{width}} {shown}\n")

    def paint(self, text: str, colour: str | None) -> str:
        """The text in a colour, on a terminal."""
        return click.style(text, fg=colour) if colour and self.colours else text

    def pairs(self, pairs: Iterable[tuple[str, str]], indent: int = 0) -> None:
        """``Label:   text`` lines, the texts under each other."""
        rows = list(pairs)
        width = max((width_of(label) for label, _ in rows), default=0) + 2
        for label, text in rows:
            first, *rest = [clean(line) for line in text.split("\n")]
            head = clean(label) + ":"
            self.stream.write(" " * indent + head.ljust(width) + " " + first + "\n")
            for line in rest:
                self.stream.write(" " * (indent + width + 1) + line + "\n")

    def table(
        self,
        headings: Sequence[str | Sequence[str]],
        rows: Iterable[Sequence[Cell]],
        *,
        empty: str = "",
    ) -> None:
        """Columns under headings of one or more lines; long cells wrap where the terminal ends.

        ``empty`` is said on stderr when there is no row.
        """
        heads = [_lines(heading) for heading in headings]
        body = [[_lines(cell) for cell in row] for row in rows]
        widths = _widths(heads, body, self.width)
        self._row(heads, widths, bold=True)
        for row in body:
            self._row(row, widths)
        if not body and empty:
            click.echo(empty, err=True)

    def _row(self, row: list[list[str]], widths: list[int], bold: bool = False) -> None:
        cells = [
            [piece for line in cell for piece in _wrap(line, width)]
            for cell, width in zip(row, widths, strict=True)
        ]
        for number in range(max((len(cell) for cell in cells), default=1)):
            texts = []
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
                text = cell[number] if number < len(cell) else ""
                # Blanks beyond the edge of the terminal would make a line of their own.
                last = column == len(cells) - 1
                gap = "" if last else " " * (width - width_of(text) + PADDING)
                if bold and self.colours:
                    text = click.style(text, bold=True)
                else:
                    text = self.paint(text, colour_of(text))
                texts.append(text + gap)
            self.stream.write("".join(texts).rstrip() + "\n")


def _lines(cell: Cell) -> list[str]:
    if cell is None:
        return [""]
    if isinstance(cell, bool):
        return ["true" if cell else "false"]
    if isinstance(cell, str):
        return [clean(line) for line in cell.split("\n")]
    if isinstance(cell, int | float):
        return [f"{cell:g}" if isinstance(cell, float) else str(cell)]
    return [clean(str(line)) for line in cell] or [""]


def _widths(heads: list[list[str]], body: list[list[list[str]]], limit: int) -> list[int]:
    """Widths of the columns; the widest give way until the line fits."""
    widths = [
        max([MIN_WIDTH, *(width_of(line) for row in [heads, *body] for line in row[column])])
        for column in range(len(heads))
    ]
    if limit >= 1 << 30:
        return widths
    while sum(widths) + PADDING * (len(widths) - 1) > limit:
        widest = max(range(len(widths)), key=lambda column: widths[column])
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    return widths


def _wrap(text: str, width: int) -> list[str]:
    """Break a line that is too long, after a blank or a comma where there is one."""
    pieces = []
    while width_of(text) > width:
        fits = 1
        while width_of(text[: fits + 1]) <= width:
            fits += 1
        cut = max(text.rfind(" ", 0, fits), text.rfind(",", 0, fits)) + 1
        if cut <= fits // 2:
            cut = fits
        pieces.append(text[:cut].rstrip())
        text = text[cut:]
    return [*pieces, text]
