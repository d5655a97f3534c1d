"""Running commands, with an error that says what they said."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any


class CommandError(AssertionError):
    """A command that failed."""


def run(*command: object, text: str = "", check: bool = True, timeout: float = 120) -> str:
    """Its output; with ``check`` an error of everything that it said."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, input=text, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode:
        raise CommandError(
            f"{' '.join(words)}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout


def until(what: str, look: Callable[[], Any], seconds: float = 120, every: float = 0.5) -> Any:
    """Ask again until the answer counts; the last failure is told."""
    end = time.monotonic() + seconds
    last: Any = None
    while True:
        try:
            last = look()
            if last:
                return last
        except (CommandError, OSError, ValueError, KeyError, IndexError) as error:
            last = error
        if time.monotonic() > end:
            raise CommandError(f"{what}: not within {seconds:.0f} s; last: {last}")
        time.sleep(every)
