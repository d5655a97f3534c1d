"""What ``exec`` makes of an API server's word: the outcome of a command, and refusals."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from axoneme.core.errors import StoreError
from axoneme.core.k8s.access import open_access
from axoneme.core.k8s.exec import _code, execute
from axoneme.core.testing.apiserver import api_server


def test_outcomes() -> None:
    """Success, an exit code, and what could not be started (Kubernetes API: Status)."""
    assert _code(b'{"status": "Success"}', "x/y") == 0
    causes = [{"reason": "ExitCode", "message": "7"}]
    failed = {"status": "Failure", "details": {"causes": causes}}
    assert _code(json.dumps(failed).encode(), "x/y") == 7
    with pytest.raises(StoreError, match=r"exec in x/y: no such container"):
        _code(b'{"status": "Failure", "message": "no such container"}', "x/y")
    with pytest.raises(StoreError, match="the connection ended"):
        _code(b"", "x/y")


@pytest.mark.needs("kubernetes")
def test_a_pod_that_is_not_there(tmp_path: Path) -> None:
    """The server's refusal names the pod."""
    with api_server(tmp_path) as server:

        async def work() -> None:
            access = await open_access(str(server.kubeconfig))
            with pytest.raises(StoreError, match="exec in default/nobody: 404"):
                await execute(access, "default", "nobody", ["true"])

        asyncio.run(work())
