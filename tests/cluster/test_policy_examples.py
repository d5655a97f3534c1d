"""Each example policy does what its description says: every pair of a lab, both families.

What is expected is written by hand in ``manifests/policy-examples.yaml``. The pods of each kind are
on both nodes, so every pair is met on one node and between nodes; nodes and machines outside the
cluster take part.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from axoneme.core.lab import matrix, probe, targets
from axoneme.core.lab.model import Lab
from axoneme.core.lab.paths import LabPaths
from axoneme.core.lab.targets import Place
from axoneme.core.store.sync import SyncStore

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "deploy" / "examples" / "policies"
EXPECTED: dict[str, list[str]] = yaml.safe_load(
    (HERE / "manifests" / "policy-examples.yaml").read_text()
)
READ_ONLY = {
    "kubernetes-sctp": "the kernel may lack SCTP",
    "clusterwide-health": "a lab has no health endpoints",
    "cilium-from-nodes": "test_node_policy.py tries it",
    "cilium-to-nodes": "test_node_policy.py tries it",
    "cilium-entity-kube-apiserver": "test_node_policy.py tries it",
    "clusterwide-host": "test_host_firewall.py tries it",
    "names-exact": "needs a DNS server",
    "names-pattern": "needs a DNS server",
}
CONFIG = {"enable_k8s_cluster_network_policy": "true"}


def _outside() -> ModuleType:
    """The helper beside this file, which is no package."""
    spec = importlib.util.spec_from_file_location("axot_outside", HERE / "outside.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Field:
    """The lab with all that takes part, and the attempts between them."""

    def __init__(self, cluster: Any, lab: Lab, beyond: tuple[Place, ...]) -> None:
        self.cluster = cluster
        self.lab = lab
        pods = matrix.places(lab)
        store = SyncStore(lab.paths.store)
        nodes = [targets.source(lab, store, node.name) for node in lab.nodes]
        self.orders = matrix.orders(pods)
        for pod in pods:
            for other in (*nodes, *beyond):
                self.orders += matrix.orders([pod, other])

    def wrong(self, lines: list[str]) -> list[str]:
        """Attempts that did not come out as the lines say."""
        found = []
        for order, result in zip(self.orders, probe.run(self.lab, self.orders), strict=True):
            expected = verdict(lines, order)
            if result.verdict != expected:
                what = f"{order.proto}/{order.port} IPv{order.family}"
                ends = f"{order.source.name} → {order.target.name}"
                found.append(f"{ends} {what}: {result.as_dict()}, expected {expected}")
        return found


def verdict(lines: list[str], order: probe.Order) -> str:
    """What the last line that fits says; without one the attempt passes."""
    source, target = role(order.source, order.target), role(order.target, order.source)
    what = f"{order.proto}/{order.port}/{order.family}"
    answer = "allowed"
    for line in lines:
        word, sources, destinations, *attempts = line.split()
        if (
            fnmatchcase(source, sources)
            and fnmatchcase(target, destinations)
            and fnmatchcase(what, attempts[0] if attempts else "*")
        ):
            answer = {"allow": "allowed", "deny": "denied"}[word]
    return answer


def role(place: Place, other: Place) -> str:
    """A pod's kind, or what a place is for the pod at the other end."""
    if place.kind == "node":
        return "host" if place.node == other.node else "remote-node"
    return place.name.partition("-")[0]


@pytest.fixture(scope="module")
def field(cluster: Any) -> Iterator[Field]:
    """Two nodes, the examples' workloads, two machines outside."""
    cluster.up(2, **CONFIG)
    cluster.apply(EXAMPLES / "workloads.yaml")
    lab = Lab.load(LabPaths(cluster.environment["AXONEME_LAB"]))
    with _outside().machines(lab) as beyond:
        yield Field(cluster, lab, beyond)
    cluster.down()


def test_every_example_has_its_table() -> None:
    """No file of the examples is left out, none is expected that is not there."""
    files = {path.stem for path in EXAMPLES.glob("*.yaml")} - {"workloads"}
    assert files == EXPECTED.keys() | READ_ONLY.keys()
    assert not EXPECTED.keys() & READ_ONLY.keys()


def test_all_passes_without_a_policy(field: Field) -> None:
    """So a denial below comes from the example."""
    assert field.wrong([]) == []
    assert {order.family for order in field.orders} == {4, 6}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_means_what_it_says(field: Field, name: str) -> None:
    """Applied alone; deleted again afterwards."""
    path = EXAMPLES / f"{name}.yaml"
    field.cluster.apply(path)
    try:
        assert field.wrong(EXPECTED[name]) == []
    finally:
        field.cluster.delete(path)
