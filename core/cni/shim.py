"""The executable in C, compiled once per machine; the Python one where that cannot be.

Cold start is what a pod waits for: 0.7 ms of one CPU against 10 (``core/decisions/0014``). Both
files answer the same tests.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

SCRIPT: Final = Path(__file__).parent / "bin" / "axoneme-cni"
SOURCE: Final = SCRIPT.with_suffix(".c")
HEADER: Final = SCRIPT.with_name("axoneme-cni-json.h")
CACHE: Final = Path(os.environ.get("AXONEME_CNI_CACHE") or "/var/lib/axoneme/cache/cni")
FLAGS: Final = ("-O2", "-static", "-s", "-std=gnu11")
"""Static: it runs on hosts with another C library, or with none."""


@cache
def executable(folder: Path = CACHE) -> Path:
    """The quickest executable that this machine can have."""
    return compiled(folder) or SCRIPT


def compiled(folder: Path = CACHE) -> Path | None:
    """The compiled executable, from ``folder`` if it is there; ``None`` without a compiler."""
    try:
        source = SOURCE.read_bytes() + HEADER.read_bytes()
        target = folder / hashlib.sha256(source).hexdigest()[:16] / SCRIPT.name
        if not target.exists():
            _compile(target)
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("no compiled CNI executable", extra={"error": str(error)})
        return None
    return target


def _compile(target: Path) -> None:
    """Compile beside, try it, rename: nobody ever runs half a file."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        subprocess.run(
            [compiler, *FLAGS, "-o", str(temporary), str(SOURCE)],
            check=True,
            capture_output=True,
            timeout=60,
        )
        subprocess.run(
            [str(temporary)],
            env={"CNI_COMMAND": "VERSION"},
            stdin=subprocess.DEVNULL,
            check=True,
            capture_output=True,
            timeout=10,
        )
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
