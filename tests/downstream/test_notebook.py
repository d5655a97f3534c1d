"""A plugin without a packet path, in a real agent: hooks are called, in order, with what they say.

It is not installed: the key ``plugins`` names its module, which is how a plugin is tried out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

SOURCE = Path(__file__).parent / "axoneme-notebook" / "src"
LAB = "axotnote"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: notes, labels: {notebook: "yes"}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
"""
ONCE = (
    "axoneme_register_options",
    "axoneme_is_enabled",
    "axoneme_register_kinds",
    "axoneme_setup_agent",
    "axoneme_register_events",
)
"""Hooks of the start, in the order in which a real one calls them."""

Run = Callable[..., Any]


@pytest.fixture
def axoneme() -> Iterator[Run]:
    """The command line with the plugin on the path; ``-o json`` answers come back decoded."""
    environment = os.environ | {"AXONEME_LAB": LAB, "PYTHONPATH": str(SOURCE)}

    def run(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "axoneme.core.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "json" in arguments else done.stdout

    try:
        yield run
    finally:
        run("lab", "down")


def test_every_hook_is_called_in_a_real_run(axoneme: Run, tmp_path: Path) -> None:
    """Start, pod, probe, removal, restart: the notes, the trace and the status show them."""
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(POD)
    settings = ("plugins=axoneme_notebook.plugin", "enable-notebook=true", "plugin-trace=true")
    config = [word for setting in settings for word in ("--config", setting)]
    axoneme("lab", "up", "--nodes", "1", *config)
    node = ("--node", "node1", "-o", "json")

    axoneme("lab", "apply", "-f", str(manifest))
    endpoint = axoneme("endpoint", "get", "notes/a", *node)
    assert "notebook:noted" in endpoint["labels"], "the plugin's label is part of the identity"
    identity = axoneme("identity", "get", str(endpoint["identity"]), *node)
    assert "notebook:noted" in identity["labels"]

    probe = axoneme("lab", "probe", "notes/a", "198.51.100.1", "--proto", "icmp", "-o", "json")
    assert probe["verdict"] == "allowed"
    lines = {line["label"]: line["text"] for line in axoneme("status", *node)["lines"]}
    assert re.match(r"1 notes, [1-9]\d* events", lines["Notebook"])

    axoneme("lab", "delete", "-f", str(manifest))
    words = [note["word"] for note in axoneme("state", "notes", *node)]
    assert words == ["ready", "removed"]

    axoneme("lab", "agent", "node1", "restart")
    words = [note["word"] for note in axoneme("state", "notes", *node)]
    assert words == ["ready", "removed"], "axoneme_stop_agent kept them"

    log = Path(f"/run/axoneme/{LAB}/nodes/node1/agent.log").read_text()
    called = re.findall(r"^hook (axoneme_\w+) plugin=notebook \(.*\) .* ms$", log, re.M)
    firsts = [hook for hook in dict.fromkeys(called) if hook in ONCE]
    # The trace key is itself configuration: what precedes reading it cannot be traced.
    assert firsts == [hook for hook in ONCE if hook in firsts]
    assert {
        "axoneme_register_kinds",
        "axoneme_setup_agent",
        "axoneme_label_pod",
        "axoneme_endpoint_changed",
        "axoneme_endpoint_removed",
        "axoneme_register_events",
        "axoneme_handle_events",
        "axoneme_report_status",
        "axoneme_stop_agent",
    } <= set(called)
