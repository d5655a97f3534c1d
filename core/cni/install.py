"""Putting the executable and its configuration where a container runtime looks for them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from axoneme.core.errors import AxonemeError

EXECUTABLE: Final = Path(__file__).parent / "bin" / "axoneme-cni"
CONFIG_NAME: Final = "05-axoneme.conflist"
SYSTEM_PYTHON: Final = "/usr/bin/python3"


def configuration(socket: str = "", extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """The network configuration list.

    ``cniVersion`` is what every runtime in use understands; one that knows ``cniVersions`` (1.1)
    takes the newest.
    """
    plugin: dict[str, Any] = {"type": EXECUTABLE.name, **(extra or {})}
    if socket:
        plugin["socket-path"] = socket
    return {
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": "axoneme",
        "plugins": [plugin],
    }


def install(bin_dir: Path, conf_dir: Path, *, socket: str = "", python: str = "") -> list[Path]:
    """Write both, each in one step: a runtime sees the old file or the new one. What was written.

    The executable first: a configuration must not name what is not there yet.
    """
    python = python or (SYSTEM_PYTHON if Path(SYSTEM_PYTHON).exists() else sys.executable)
    text = EXECUTABLE.read_bytes()
    _, _, body = text.partition(b"\n")
    shebang = f"#!{python} -ISE\n".encode()
    if len(shebang) > 127:
        raise AxonemeError(f"the path {python} is too long for the first line of a script")
    config = json.dumps(configuration(socket), indent=2) + "\n"
    target, conf = bin_dir / EXECUTABLE.name, conf_dir / CONFIG_NAME
    write_atomically(target, shebang + body, 0o755)
    write_atomically(conf, config.encode(), 0o644)
    return [target, conf]


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """Write beside, flush, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise AxonemeError(f"{path}: {error.strerror}") from error
