"""Policy between nodes by what slices tell: identities of other nodes' pods, in bulk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.friends import NAMESPACE, POLICY, eventually, pod, verdict

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(
    scope="module",
    params=["folder", pytest.param("kubernetes", marks=pytest.mark.needs("kubernetes"))],
)
def lab(request: pytest.FixtureRequest, cluster: Any) -> Iterator[Any]:
    """A server on one node, friends and strangers on the other."""
    keys = {"enable_cilium_endpoint_slice": "true", "ces_max_ciliumendpoints_per_ces": "2"}
    cluster.up(2, store=request.param, **keys)
    cluster.apply(POLICY)
    pods = [("server", "server", "node1"), *((f"friend{n}", "friend", "node2") for n in range(3)),
            ("stranger", "stranger", "node2")]  # fmt: skip
    cluster.apply("".join(pod(n, a, w) for n, a, w in pods))
    yield cluster
    cluster.down()


def test_identities_come_by_slices(lab: Any) -> None:
    """Friends get in, a stranger does not; a restarted agent knows them from slices as well."""
    for step in range(2):
        for name in ("friend0", "friend1", "friend2"):
            eventually(lambda name=name: verdict(lab, name) == "allowed")
        assert verdict(lab, "stranger") == "denied"
        if not step:
            lab.agent("node1", "restart")


def test_a_pod_that_comes_and_goes_is_followed(lab: Any) -> None:
    """Its address means nothing afterwards."""
    lab.apply(pod("late", "friend", "node2"))
    eventually(lambda: verdict(lab, "late") == "allowed")
    address = lab.addresses(f"{NAMESPACE}/late")[4]

    def known() -> bool:
        rows = lab.call("node1", "ip", "list")
        return any(row["prefix"] == f"{address}/32" for row in rows)

    assert known()
    lab.delete(pod("late", "friend", "node2"))
    eventually(lambda: not known())


def test_switched_off_no_agent_loses_its_peers(lab: Any) -> None:
    """The operator first, then one agent after the other: who has not restarted yet hears of new
    pods still, who has reads CiliumEndpoints and says so.
    """
    off = ("--config", "enable-cilium-endpoint-slice=false")
    readers = (("node1", "node2"), ("node1",), ())
    for step, who in enumerate(("operator", "node2", "node1")):
        lab.agent(who, "restart", *off)
        name = f"new{step}"
        lab.apply(pod(name, "friend", "node2"))
        for each in (name, "friend0"):
            eventually(lambda each=each: verdict(lab, each) == "allowed")
        assert verdict(lab, "stranger") == "denied"
        nodes = json.loads(lab.run("state", "nodes_seen", "--node", "node2", "-o", "json").stdout)
        assert {n["name"] for n in nodes if n["reads_slices"]} == set(readers[step])
