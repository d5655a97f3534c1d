"""The ``ip`` command in batches: one process for all of a namespace's settings."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from axoneme.core.errors import LabError


def ip_batch(lines: Sequence[str], *, netns: str = "", force: bool = False) -> None:
    """Run lines of ``ip`` in one process, in a named namespace if given.

    Arguments never come from users unchecked: names are validated before they get here, and a
    batch line knows no quoting that could reach a shell. ``force`` goes on after a failed line
    and ignores it.
    """
    if not lines:
        return
    command = ["ip", *(["-n", netns] if netns else []), *(["-force"] if force else []), "-b", "-"]
    try:
        done = subprocess.run(
            command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise LabError("ip: command not found", hint="install iproute2") from error
    if done.returncode and not force:
        raise LabError(f"ip {netns or 'batch'}: {_failed_line(done.stderr, lines)}")


def _failed_line(stderr: str, lines: Sequence[str]) -> str:
    """``RTNETLINK answers: …`` together with the line that it answers."""
    parts = [part.strip() for part in stderr.strip().splitlines()]
    message = parts[0] if parts else "failed without a message"
    for part in parts:
        _, found, number = part.rpartition(":")
        if found and part.startswith("Command failed") and number.isdigit():
            return f"{lines[int(number) - 1]!r}: {message}"
    return message


def run(command: Sequence[str]) -> str:
    """Run a command to its end; its standard output."""
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, check=False)
    except OSError as error:
        raise LabError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
