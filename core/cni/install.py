"""Putting the executable and its configuration where a container runtime looks for them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from axoneme.core.cni import shim
from axoneme.core.errors import AxonemeError

CONFIG_NAME: Final = "05-axoneme.conflist"
SYSTEM_PYTHON: Final = "/usr/bin/python3"
LOOPBACK: Final = "loopback"
CNI_PROJECT: Final = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins are."""
BACKUP: Final = ".axoneme_bak"


def configuration(socket: str = "", extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """The network configuration list.

    ``cniVersion`` is what every runtime in use understands; one that knows ``cniVersions`` (1.1)
    takes the newest.
    """
    plugin: dict[str, Any] = {"type": shim.SCRIPT.name, **(extra or {})}
    if socket:
        plugin["socket-path"] = socket
    return {
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": "axoneme",
        "plugins": [plugin],
    }


def write_configuration(path: Path, *, socket: str = "", exclusive: bool = False) -> list[Path]:
    """Write the configuration to ``path`` in one step; with ``exclusive`` rename all others.

    A runtime takes the first file by name, so another plugin's could win. What was renamed.
    """
    config = json.dumps(configuration(socket), indent=2) + "\n"
    write_atomically(path, config.encode(), 0o644)
    return set_aside(path) if exclusive else []


def set_aside(own: Path) -> list[Path]:
    """Rename every other configuration beside ``own`` to ``NAME.axoneme_bak``."""
    renamed = []
    for other in sorted(own.parent.iterdir()):
        if other != own and other.suffix in (".conf", ".conflist", ".json"):
            other.rename(other.with_name(other.name + BACKUP))
            renamed.append(other)
    return renamed


def remove_configuration(path: Path) -> bool:
    """Remove ours, so that a runtime asks us for no pod any more; whether it was there.

    A file that does not name our executable is not ours, whatever it is called:
    :class:`AxonemeError`. The executable stays: runtimes call it for pods that end later.
    """
    try:
        if not is_ours(path.read_bytes()):
            raise AxonemeError(f"{path} does not name {shim.SCRIPT.name}, so it stays")
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise AxonemeError(f"{path}: {error.strerror}") from error
    return True


def is_ours(text: bytes) -> bool:
    """Whether a network configuration (CNI 1.1, section 1) names our executable."""
    try:
        config = json.loads(text)
    except ValueError:
        return False
    plugins = config.get("plugins") if isinstance(config, dict) else None
    listed = plugins if isinstance(plugins, list) else []
    return any(isinstance(p, dict) and p.get("type") == shim.SCRIPT.name for p in listed)


def install(
    bin_dir: Path,
    conf_dir: Path,
    *,
    socket: str = "",
    python: str = "",
    cache: Path = shim.CACHE,
    config: bool = True,
) -> list[Path]:
    """Write both, each in one step: a runtime sees the old file or the new one. What was written.

    Without ``config`` the executable alone: the agent writes the other when it is ready.

    The executable first: a configuration must not name what is not there yet. ``python`` asks for
    the script instead of the compiled one, with that interpreter.
    """
    binary = None if python else shim.compiled(cache)
    program = binary.read_bytes() if binary else _script(python)
    target, conf = bin_dir / shim.SCRIPT.name, conf_dir / CONFIG_NAME
    write_atomically(target, program, 0o755)
    written = [target, *install_loopback(bin_dir, cache)]
    if not config:
        return written
    write_configuration(conf, socket=socket)
    return [*written, conf]


def install_loopback(bin_dir: Path, cache: Path) -> list[Path]:
    """The ``loopback`` executable of the CNI project, which runtimes call for each pod.

    It is nobody's of a host without another network plugin. One that is there stays; where we
    have none to give, a runtime's own error names it.
    """
    target = bin_dir / LOOPBACK
    source = next((p / LOOPBACK for p in (cache, CNI_PROJECT) if (p / LOOPBACK).exists()), None)
    if target.exists() or source is None:
        return []
    write_atomically(target, source.read_bytes(), 0o755)
    return [target]


def _script(python: str) -> bytes:
    python = python or (SYSTEM_PYTHON if Path(SYSTEM_PYTHON).exists() else sys.executable)
    _, _, body = shim.SCRIPT.read_bytes().partition(b"\n")
    shebang = f"#!{python} -ISE\n".encode()
    if len(shebang) > 127:
        raise AxonemeError(f"the path {python} is too long for the first line of a script")
    return shebang + body


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
