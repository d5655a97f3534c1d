"""A real API server for a test, as the lab has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from axoneme.core.lab.apiserver import ApiServer, executables
from axoneme.core.testing.capabilities import missing

__all__ = ["ApiServer", "api_server"]


@contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    """A fresh one while the block lasts; where its executables are missing the test is skipped."""
    binaries = executables()
    if binaries is None:
        pytest.skip(missing("kubernetes"))
    server = ApiServer(folder, binaries)
    server.prepare()
    try:
        server.start()
        yield server
    finally:
        server.stop()
