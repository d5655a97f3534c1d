"""A real API server for a test, as the lab has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axoneme.core.lab.apiserver import ApiServer, executables

__all__ = ["ApiServer", "api_server"]


@contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    """A fresh one while the block lasts; for tests with the mark ``needs("kubernetes")``."""
    binaries = executables()
    assert binaries is not None
    server = ApiServer(folder, binaries)
    server.prepare()
    try:
        server.start()
        yield server
    finally:
        server.stop()
