"""Fixtures of the operator's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from axoneme.core.operator.tests.slice_bench import Keys, Running, runner, slice_keys
from axoneme.core.testing.apiserver import ApiServer, api_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server."""
    with api_server(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


@pytest.fixture(
    params=["folder", pytest.param("kubernetes", marks=pytest.mark.needs("kubernetes"))]
)
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Keys:
    """Of :func:`running`; a test may change them."""
    found = slice_keys(tmp_path)
    if request.param == "kubernetes":
        found |= {"store": "kubernetes", "k8s-client-qps": "200", "k8s-client-burst": "400"}
        found["k8s-kubeconfig-path"] = str(request.getfixturevalue("server").kubeconfig)
    return found


@pytest.fixture
def running(keys: Keys) -> Running:
    """Runs an operator over the same objects, as often as a test likes."""
    return runner(keys)
