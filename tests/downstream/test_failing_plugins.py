"""Plugins that fail in a real agent: the policy decides, and the blame is on the right file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

LAB = "axotfail"
COMMON = """
from pathlib import Path
from axoneme.hooks import hookimpl
API_VERSION = 1
SUMMARY = "fails"
"""
BAD_SETUP = (
    COMMON
    + """
NAME = "bad-setup"
@hookimpl
def axoneme_setup_agent(agent):
    raise ZeroDivisionError("planted")
"""
)
BAD_C = (
    COMMON
    + """
NAME = "bad-c"
@hookimpl
def axoneme_register_datapath(datapath, config):
    here = Path(__file__).parent
    datapath.stage("from_container_frame", "bad_c_frame", here / "bad_c.bpf.c")
"""
)
C_TEXT = """static __always_inline int bad_c_frame(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	return planted_mistake;
}
"""
CHILD = COMMON + 'NAME = "child"\nREQUIRES = ("bad-c",)\n'

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def axoneme(tmp_path: Path) -> Iterator[Run]:
    """The command line, with three bad plugins on the path, on a lab of its own."""
    for name, text in (("bad_setup", BAD_SETUP), ("bad_c", BAD_C), ("child", CHILD)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "plugin.py").write_text(text)
    (tmp_path / "bad_c" / "bad_c.bpf.c").write_text(C_TEXT)
    environment = os.environ | {"AXONEME_LAB": LAB, "PYTHONPATH": str(tmp_path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "axoneme.core.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )

    try:
        yield run
    finally:
        run("lab", "down")


def states(axoneme: Run) -> dict[str, dict[str, Any]]:
    """Plugins of node1 by name."""
    done = axoneme("plugin", "list", "--node", "node1", "-o", "json")
    return {row["name"]: row for row in json.loads(done.stdout)}


def test_disable_goes_on_without_what_fails(axoneme: Run) -> None:
    """The agent is ready; failed plugins and their dependents say why, the status exits with 1."""
    done = axoneme(
        *("lab", "up", "--nodes", "1", "--config", "plugin-failure-policy=disable"),
        *("--config", "plugins=bad_setup.plugin bad_c.plugin child.plugin"),
    )
    assert done.returncode == 0, done.stderr
    found = states(axoneme)
    assert found["bad-setup"]["state"] == "failed"
    assert "ZeroDivisionError: planted" in found["bad-setup"]["why"]
    assert found["bad-c"]["state"] == "failed"
    assert "bad_c.bpf.c:3" in found["bad-c"]["why"]
    assert "planted_mistake" in found["bad-c"]["why"]
    assert found["child"]["why"].startswith("requires bad-c, which failed")
    assert found["policy"]["state"] == "on"
    status = axoneme("status", "--node", "node1", "--brief")
    assert status.returncode == 1
    assert "Failure: plugin bad-c" in status.stdout


def test_stop_names_file_and_line(axoneme: Run) -> None:
    """By default the start fails, and says which file and line to look at."""
    done = axoneme("lab", "up", "--nodes", "1", "--config", "plugins=bad_c.plugin")
    assert done.returncode == 1
    assert "plugin bad-c" in done.stderr and "bad_c.bpf.c:3" in done.stderr
