"""Whether the files of a configuration have changed, at the cost of a few ``stat`` calls."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from axoneme.core.config_sources import Sources

Print = tuple[tuple[str, int, int, int], ...]


def fingerprint(sources: Sources) -> Print:
    """Equal as long as nothing has changed; what cannot be read is part of it.

    Links are followed: of a mounted ConfigMap the files are others when it changes.
    """
    return tuple(_stats(sources))


def _stats(sources: Sources) -> Iterator[tuple[str, int, int, int]]:
    paths = [sources.yaml_file] if sources.yaml_file is not None else []
    folder = sources.config_dir
    if folder is not None:
        try:
            paths += [folder / name for name in sorted(os.listdir(folder))]  # noqa: PTH208
        except OSError as error:
            yield str(folder), error.errno or 0, 0, 0
    for path in paths:
        yield _stat(path)


def _stat(path: Path) -> tuple[str, int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        return str(path), error.errno or 0, 0, 0
    return str(path), found.st_mtime_ns, found.st_size, found.st_ino
