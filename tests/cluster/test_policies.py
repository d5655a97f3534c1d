"""The matrix of a real lab equals what the policies say, tunnelled and natively routed.

What they say is written down here by hand, as one small function for each manifest: it knows
nothing of the code that it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

MANIFESTS = Path(__file__).parent / "manifests"
Expect = Callable[[str, str, int], bool]


def kind_of(pod: str) -> str:
    """``tiers/front-5d8…-x`` is ``tiers/front``."""
    namespace, _, name = pod.partition("/")
    return f"{namespace}/{name.partition('-')[0]}"


def tiers(source: str, target: str, port: int) -> bool:
    """Default deny in tiers; back takes front on 9090 and ops' watcher on any; idle stays home."""
    if source == "ops/idle" and not target.startswith("ops/"):
        return False
    if target == "tiers/front":
        return False
    if target == "tiers/back":
        return (source == "tiers/front" and port == 9090) or source == "ops/watcher"
    return True


def deny(source: str, target: str, port: int) -> bool:
    """DNS for everybody but the banned, its metrics for prom; prom may go nowhere else."""
    if source == "metrics/prom" and not target.startswith("infra/"):
        return False
    if target == "infra/dns":
        return source != "apps/bad" and (port == 53 or source == "metrics/prom")
    return True


def world(source: str, target: str, port: int) -> bool:
    """Queue hears queue and agents, and speaks to queue alone; agents speak to queue alone."""
    if source in ("edge/queue", "edge/agent") and target != "edge/queue":
        return False
    return target != "edge/queue" or source in ("edge/queue", "edge/agent")


CASES: dict[str, Expect] = {"tiers": tiers, "deny": deny, "world": world}


@pytest.fixture(scope="module", params=["vxlan", "native"])
def lab(request: pytest.FixtureRequest, cluster: Any) -> Iterator[Any]:
    """Three nodes in one mode."""
    cluster.down()
    if request.param == "native":
        cluster.up(3, routing_mode="native")
    else:
        cluster.up(3, routing_mode="tunnel", tunnel_protocol=request.param)
    yield cluster
    cluster.down()


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest, lab: Any) -> Iterator[str]:
    """One manifest applied, and deleted again."""
    manifest = MANIFESTS / f"{request.param}.yaml"
    lab.apply(manifest)
    yield request.param
    lab.delete(manifest)


def test_the_matrix_is_what_the_policies_say(lab: Any, case: str) -> None:
    """Every pair on every declared port in both families; a denial has its reason."""
    rows = lab.matrix()
    expect = CASES[case]
    wrong = [
        row
        for row in rows
        if row["verdict"]
        != (
            "allowed" if expect(kind_of(row["from"]), kind_of(row["to"]), row["port"]) else "denied"
        )
    ]
    assert not wrong, wrong
    assert {row["family"] for row in rows} == {4, 6}
    pods = {f"{p['namespace']}/{p['name']}" for p in lab.pods()}
    assert {row["from"] for row in rows} == {row["to"] for row in rows} == pods
    reasons = {row["drop_reason"] for row in rows if row["verdict"] == "denied"}
    assert reasons <= {"Policy denied", "Policy denied by denylist"}, reasons


def test_pods_are_spread_and_ready(lab: Any, case: str) -> None:
    """On more than one node, each with both families and an identity."""
    pods = lab.pods()
    assert len({p["node"] for p in pods}) > 1
    for pod in pods:
        assert pod["state"] == "ready", pod
        assert pod["identity"] >= 256, pod
        assert {":" in a for a in pod["addresses"]} == {False, True}, pod


OUTSIDE = [
    ("edge/free", 80, "4", "allowed"),
    ("edge/free", 80, "6", "allowed"),
    ("edge/agent", 443, "4", "allowed"),
    ("edge/agent", 443, "6", "allowed"),
    ("edge/agent", 80, "4", "denied"),
    ("edge/agent", 80, "6", "denied"),
    ("edge/queue", 80, "4", "allowed"),
    ("edge/queue", 80, "6", "denied"),
]


def test_the_outside_world_is_reached_as_policies_say(lab: Any) -> None:
    """By entity and by CIDR with an exception, through masquerade; then with the policies gone."""
    manifest = MANIFESTS / "world.yaml"
    lab.apply(manifest)
    try:
        for pod, port, family, verdict in OUTSIDE:
            result = lab.probe(pod, "world", "--port", str(port), "--family", family)
            assert result["verdict"] == verdict, (pod, port, family, result)
    finally:
        lab.delete(manifest)
    assert lab.pods() == []


def test_scaling_and_relabelling_are_followed(lab: Any) -> None:
    """Scale up and down keeps the pods that stay; a new label changes identity and policy."""
    base = (MANIFESTS / "tiers.yaml").read_text()
    lab.apply(base)
    try:
        before = {p["name"]: p for p in lab.pods()}
        lab.apply(base.replace("replicas: 3", "replicas: 5"))
        more = {p["name"]: p for p in lab.pods()}
        assert len(more) == len(before) + 2
        assert all(more[name] == pod for name, pod in before.items())
        lab.apply(base.replace("replicas: 3", "replicas: 1"))
        assert len(lab.pods()) == len(before) - 2

        back = lab.pod("tiers/back")
        assert lab.probe("ops/idle", back, "--port", "9090")["verdict"] == "denied"
        lab.apply(base.replace("labels: {role: idle}", "labels: {role: watcher}"))
        result = lab.probe("ops/idle", lab.pod("tiers/back"), "--port", "9090")
        assert result["verdict"] == "allowed", result
    finally:
        lab.delete(base)
