"""Identities by the operator: policy follows them, and agents write none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.friends import NAMESPACE, POLICY, eventually, pod, verdict

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(
    scope="module",
    params=["folder", pytest.param("kubernetes", marks=pytest.mark.needs("kubernetes"))],
)
def lab(request: pytest.FixtureRequest, cluster: Any) -> Iterator[Any]:
    """A server on one node, a friend and a stranger on the other."""
    cluster.up(2, store=request.param, identity_management_mode="operator")
    cluster.apply(POLICY)
    pods = [("server", "server", "node1"), ("friend", "friend", "node2"),
            ("stranger", "stranger", "node2")]  # fmt: skip
    cluster.apply("".join(pod(n, a, w) for n, a, w in pods))
    yield cluster
    cluster.down()


def log(lab: Any, name: str) -> str:
    """Of an agent or the operator."""
    kind = "operator" if name == "operator" else "agent"
    return str((lab.root / "nodes" / name / f"{kind}.log").read_text())


def test_policy_follows_identities_that_the_operator_makes(lab: Any) -> None:
    """No agent has made one; a restarted agent has the same."""
    for step in range(2):
        eventually(lambda: verdict(lab, "friend") == "allowed")
        assert verdict(lab, "stranger") == "denied"
        if not step:
            lab.agent("node2", "restart")
    assert log(lab, "operator").count("identity created") >= 3
    assert "identity created" not in log(lab, "node1") + log(lab, "node2")


def test_another_label_is_another_identity(lab: Any) -> None:
    """There and back."""
    lab.apply(pod("stranger", "friend", "node2"))
    eventually(lambda: verdict(lab, "stranger") == "allowed")
    lab.apply(pod("stranger", "stranger", "node2"))
    eventually(lambda: verdict(lab, "stranger") == "denied")


def test_without_an_operator_known_labels_go_on(lab: Any) -> None:
    """A new label set waits, the status says for whom, and the operator's return is enough."""
    lab.agent("operator", "stop")
    lab.apply(pod("friend2", "friend", "node2"))
    assert verdict(lab, "friend2") == "allowed"

    lab.apply(pod("stranger", "new", "node2"))
    component = {"name": "identities", "health": "Warning"}

    def said() -> str:
        parts = lab.call("node2", "status")["components"]
        found = (p["message"] for p in parts if component.items() <= p.items())
        return next(found, "")

    eventually(lambda: "k8s:app=new" in said())
    assert verdict(lab, "friend") == "allowed" and verdict(lab, "stranger") == "denied"
    lab.agent("operator", "start")
    identity = lambda: lab.call("node2", "endpoint", "get", f"{NAMESPACE}/stranger")["labels"]  # noqa: E731
    eventually(lambda: "k8s:app=new" in identity())
    eventually(lambda: not said())


def test_a_plugin_that_labels_on_nodes_is_refused(lab: Any) -> None:
    """By a message that names plugin, key and remedy; without it the agent starts again."""
    lab.environment["PYTHONPATH"] = str(Path(__file__).parents[1] / "downstream")
    try:
        lab.agent("node2", "restart", "--config", "plugins=zoned", check=False)
        eventually(lambda: "axoneme_label_pod" in log(lab, "node2"))
        line = next(x for x in log(lab, "node2").splitlines() if "zoned" in x)
        assert "identity-management-mode" in line
        lab.agent("node2", "start", "--config", "plugins=zoned",
                  "--config", "identity-management-mode=both")  # fmt: skip
        labels = lambda: lab.call("node2", "endpoint", "get", f"{NAMESPACE}/friend")["labels"]  # noqa: E731
        eventually(lambda: "zone:node=node2" in labels())
        assert verdict(lab, "friend") == "allowed"
    finally:
        lab.environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
