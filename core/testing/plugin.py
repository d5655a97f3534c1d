"""pytest plugin of the test kit: marks, namespaces, private pins.

Found through the entry point ``pytest11``, so a plugin author's tests have it by installing
axoneme. Everything that the fixtures make carries the prefix ``axot`` and is gone afterwards.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from axoneme.core.testing.capabilities import missing

BPFFS = Path("/sys/fs/bpf")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks."""
    config.addinivalue_line("markers", "root: needs root (namespaces, bpf)")
    config.addinivalue_line("markers", "needs(capability): skip when the kernel lacks it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here, naming the capability that is missing."""
    for item in items:
        wanted = [m.args[0] for m in item.iter_markers("needs")]
        if item.get_closest_marker("root"):
            wanted.insert(0, "root")
        for capability in wanted:
            if reason := missing(capability):
                item.add_marker(pytest.mark.skip(reason=f"missing: {reason}"))
                break


@pytest.fixture
def axoneme_netns() -> Iterator[Callable[[], str]]:
    """A function that makes a network namespace and returns its name."""
    from axoneme.core.netlink.namespaces import create_netns, delete_netns  # noqa: PLC0415

    names: list[str] = []

    def make() -> str:
        name = f"axot-{uuid4().hex[:8]}"
        names.append(name)
        create_netns(name)
        return name

    yield make
    for name in names:
        with suppress(Exception):
            delete_netns(name)


@pytest.fixture
def axoneme_bpffs() -> Iterator[Path]:
    """A private folder for pins."""
    path = BPFFS / f"axot-{uuid4().hex[:8]}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)
