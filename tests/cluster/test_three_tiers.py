"""The example with three namespaces: what real packets meet is what ``policy trace`` says.

Every pair of twelve pods, both families, each declared port and an echo; nodes and the world too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from axoneme.core.api import client
from axoneme.core.lab.paths import LabPaths
from axoneme.core.lab.underlay import WORLD4, WORLD6

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "deploy" / "examples" / "three-tiers.yaml"
POLICIES = ("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy",
            "ClusterNetworkPolicy")  # fmt: skip
PASSES = ("allowed", "redirected", "audit")
ECHO = {4: 8, 6: 128}
WORLD = {4: WORLD4, 6: WORLD6}
"""The machine outside: a network that a rule names is more than the entity."""


@pytest.fixture(scope="module")
def lab(cluster: Any) -> Iterator[Any]:
    """Three nodes, the example, and one workload in audit mode."""
    cluster.up(3, enable_k8s_cluster_network_policy="true")
    cluster.apply(EXAMPLE)
    [trial] = [p for p in cluster.pods() if p["name"].startswith("trial")]
    words = (f"front/{trial['name']}", "PolicyAuditMode=Enabled", "--node", trial["node"])
    cluster.run("endpoint", "config", *words)
    yield cluster
    cluster.down()


def traced(lab: Any, cell: dict[str, Any], nodes: dict[str, str]) -> str:
    """What the agent of the receiver says of an attempt, or that of the sender."""
    target = str(WORLD[cell["family"]]) if cell["to"] == "world" else cell["to"]
    asked = {"from": cell["from"], "to": target, "family": cell["family"]}
    if cell["proto"] == "icmp":
        asked["icmp"] = str(ECHO[cell["family"]])
    else:
        asked["port"] = f"{cell['port']}/{cell['proto'].upper()}"
    node = nodes.get(cell["to"]) or nodes[cell["from"]]
    socket = LabPaths(lab.environment["AXONEME_LAB"]).socket(node)
    return str(client.call(socket, "policy.trace", asked)["verdict"])


def test_twelve_policies_of_all_kinds() -> None:
    """The example is what its first line says."""
    found = [m for m in yaml.safe_load_all(EXAMPLE.read_text()) if m["kind"] in POLICIES]
    assert len(found) == 12 and {m["kind"] for m in found} == set(POLICIES)


@pytest.mark.parametrize("words", [(), ("--proto", "icmp")], ids=["ports", "echo"])
def test_packets_meet_what_the_trace_says(lab: Any, words: tuple[str, ...]) -> None:
    """For every pair, and neither verdict is rare."""
    others = ("--with", "node1", "--with", "node2", "--with", "world")
    cells = json.loads(lab.run("lab", "matrix", *words, *others, "-o", "json").stdout)
    assert {c["family"] for c in cells} == {4, 6}
    assert len({(c["from"], c["to"]) for c in cells}) >= 12 * 11 + 12 * 5
    nodes = {f"{p['namespace']}/{p['name']}": p["node"] for p in lab.pods()}
    wrong = []
    for cell in cells:
        said = traced(lab, cell, nodes)
        if (said in PASSES) != (cell["verdict"] == "allowed"):
            wrong.append((cell, said))
    assert wrong == []
    counts = Counter(cell["verdict"] for cell in cells)
    assert counts["allowed"] > 50 and counts["denied"] > 50 and not counts["error"]
