"""Workloads to pods: names, spread, scale, replacement. No kernel needed."""

from __future__ import annotations

from typing import Any

from axoneme.core.lab.start import node_labels
from axoneme.core.lab.workloads import PodPlan, place, plan
from axoneme.core.model.objects import ClusterObject, ObjectKey

NODES = {name: node_labels(name) for name in ("node1", "node2", "node3")}


def workload(kind: str, name: str = "web", namespace: str = "demo", **spec: Any) -> ClusterObject:
    """A workload object with one container port."""
    body = {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
            },
            **spec,
        },
    }
    return ClusterObject(ObjectKey(kind, namespace, name), "apps/v1", uid="u", body=body)


def pod(name: str, **spec: Any) -> ClusterObject:
    """A Pod object."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "demo", "uid": "x", "resourceVersion": "7"},
        "spec": {"containers": [{"name": "c"}], **spec},
        "status": {"phase": "Running"},
    }
    return ClusterObject(ObjectKey("Pod", "demo", name), "v1", uid="x", body=body)


def names(*objects: ClusterObject) -> set[str]:
    """Names of the pods that the objects ask for."""
    return set(plan([o for o in objects if o.key.kind != "Pod"], [], NODES))


def test_names_are_computed_so_that_a_second_run_changes_nothing() -> None:
    """The same workload gives the same pods each time."""
    assert names(workload("Deployment", replicas=4)) == names(workload("Deployment", replicas=4))


def test_scaling_keeps_the_pods_that_stay() -> None:
    """Two replicas are a subset of five."""
    assert names(workload("Deployment", replicas=2)) < names(workload("Deployment", replicas=5))


def test_a_changed_template_of_a_deployment_makes_other_pods() -> None:
    """Like a roll-out: no name of the old template is kept."""
    changed = workload("Deployment", replicas=2)
    changed.body["spec"]["template"]["metadata"]["labels"]["version"] = "2"
    assert not names(changed) & names(workload("Deployment", replicas=2))


def test_a_changed_template_of_a_stateful_set_keeps_names_but_asks_for_replacement() -> None:
    """``db-0`` stays ``db-0``, with another template hash."""
    old, new = workload("StatefulSet", "db", replicas=1), workload("StatefulSet", "db", replicas=1)
    new.body["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": 81}]
    before, after = plan([old], [], NODES), plan([new], [], NODES)
    assert list(before) == list(after) == ["demo/db-0"]
    assert before["demo/db-0"].template != after["demo/db-0"].template


def test_labels_alone_do_not_replace_a_pod() -> None:
    """A pod's labels may change while it runs."""
    one, two = pod("a"), pod("a")
    two.body["metadata"]["labels"] = {"role": "new"}
    hashes = {plan([], [p], NODES)["demo/a"].template for p in (one, two)}
    assert len(hashes) == 1


def test_a_daemon_set_has_one_pod_on_each_node() -> None:
    """Each pod demands its node."""
    plans = plan([workload("DaemonSet")], [], NODES)
    assert sorted(p.node for p in plans.values()) == sorted(NODES)


def test_pods_of_a_workload_spread_over_the_nodes() -> None:
    """Six replicas on three nodes are two each."""
    plans = plan([workload("Deployment", replicas=6)], [], NODES)
    placed = place(plans.values(), {}, NODES)
    assert sorted(placed.values()) == sorted([*NODES, *NODES])


def test_running_pods_are_never_moved() -> None:
    """What is placed stays, however uneven."""
    plans = plan([workload("Deployment", replicas=2)], [], NODES)
    there = dict.fromkeys(plans, "node3")
    assert place(plans.values(), there, NODES) == there


def test_node_name_and_hostname_selector_are_respected() -> None:
    """Either of them decides."""
    selector = {"kubernetes.io/hostname": "node2"}
    plans = plan([], [pod("a", nodeName="node3"), pod("b", nodeSelector=selector)], NODES)
    assert place(plans.values(), {}, NODES) == {"demo/a": "node3", "demo/b": "node2"}


def test_a_pod_that_no_node_suits_is_left_out() -> None:
    """It must not land anywhere else."""
    plans = plan([], [pod("a", nodeSelector={"disk": "ssd"})], NODES)
    assert place(plans.values(), {}, NODES) == {}


def test_pods_with_an_owner_follow_their_workload_only() -> None:
    """An owned Pod object does not keep itself alive when the workload is gone."""
    owned = pod("a")
    owned.body["metadata"]["ownerReferences"] = [
        {"kind": "ReplicaSet", "name": "web", "controller": True}
    ]
    assert plan([], [owned], NODES) == {}


def test_a_plan_carries_nothing_that_the_store_owns() -> None:
    """A replaced pod must get a new uid and no old status."""
    body = plan([], [pod("a")], NODES)["demo/a"].body
    assert "status" not in body
    assert set(body["metadata"]) == {"name", "namespace"}


def test_ports_are_listed_once_with_their_protocol() -> None:
    """Two containers with one port, and a protocol that is not TCP."""
    containers = [
        {"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]},
        {"name": "b", "ports": [{"containerPort": 80}]},
    ]
    planned: PodPlan = plan([], [pod("a", containers=containers)], NODES)["demo/a"]
    assert planned.ports == ((80, "TCP"), (53, "UDP"))
