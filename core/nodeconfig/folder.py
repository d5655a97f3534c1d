"""A folder of one file per key that is replaced as a whole, as Kubernetes mounts a ConfigMap.

    DIR/key     -> ..data/key
    DIR/..data  -> ..1760000000000000000
    DIR/..1760000000000000000/{key, …, .origins.json}

``..data`` is renamed into place once all files are on the disk: a reader sees the old configuration
or the new, and a folder with that link is complete, whenever the writer was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from axoneme.core.config_sources import DATA, ORIGINS, RawValue
from axoneme.core.errors import ConfigError

_HIDDEN: Final = "..axoneme-"
"""Of links that are being made."""


def is_complete(folder: Path) -> bool:
    """Whether a whole configuration has been written there."""
    return (folder / DATA / ORIGINS).is_file()


def written_at(folder: Path) -> float:
    """Unix time of the configuration that is there."""
    return (folder / DATA / ORIGINS).stat().st_mtime


def write(folder: Path, values: Mapping[str, RawValue]) -> None:
    """Replace what is there by these values. :class:`ConfigError` names the path that failed."""
    try:
        _write(folder, values)
    except OSError as error:
        where = error.filename or folder
        raise ConfigError(f"cannot write configuration {where}: {error.strerror}") from error


def _write(folder: Path, values: Mapping[str, RawValue]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"..{time.time_ns()}"
    made.mkdir(mode=0o755)
    for key, found in values.items():
        _put(made / key, str(found.value))
    origins = {key: found.origin for key, found in sorted(values.items())}
    _put(made / ORIGINS, json.dumps(origins, indent=1) + "\n")
    _sync(made)
    _link(folder / DATA, made.name)
    for key in values:
        _link(folder / key, f"{DATA}/{key}")
    _sweep(folder, made.name, values)
    _sync(folder)


def _put(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _link(path: Path, target: str) -> None:
    """Make a symbolic link in place of whatever has that name."""
    if path.is_symlink() and os.readlink(path) == target:  # noqa: PTH115 - the text itself
        return
    hidden = path.with_name(f"{_HIDDEN}{path.name}")
    hidden.unlink(missing_ok=True)
    hidden.symlink_to(target)
    hidden.rename(path)


def _sweep(folder: Path, current: str, values: Mapping[str, RawValue]) -> None:
    """Remove keys that are no more, older versions, and what a killed writer left."""
    for path in folder.iterdir():
        if path.name in (DATA, current) or path.name in values:
            continue
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.name.startswith(".."):
            shutil.rmtree(path)


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems do not sync folders
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
