"""Which nodes' addresses a service gets, and what nodes and slices are read as."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.operator.balancers import BalancerService
from axoneme.plugins.node_ipam.compute import Outcome, choose
from axoneme.plugins.node_ipam.rows import (
    BalancerNode,
    decode_cilium_node,
    decode_node,
    decode_slice,
    merged_nodes,
)


def node(name: str, *internal: str, external: tuple[str, ...] = (), **more: Any) -> BalancerNode:
    return BalancerNode(
        name,
        more.pop("labels", {}),
        tuple(ip_address(a) for a in external),
        tuple(ip_address(a) for a in internal),
        **more,
    )


def service(annotations: dict[str, str] | None = None, **more: Any) -> BalancerService:
    return BalancerService(("default", "s"), annotations=annotations or {}, **more)


def got(
    row: BalancerService, *nodes: BalancerNode, local: tuple[str, ...] = (), families: Any = (4, 6)
) -> list[str]:
    return [str(a) for a in choose(row, nodes, local, families, ()).addresses]


N1 = node("n1", "10.0.0.1", "fd00::1", labels={"role": "edge", "service.cilium.io/node": "beefy"})
N2 = node("n2", "10.0.0.2", "fd00::2", labels={"role": "core"})


def test_every_usable_node_of_the_families() -> None:
    """Sorted, so that the status is stable; families that the service does not have are not."""
    assert got(service(), N2, N1) == ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]
    assert got(service(), N1, families=(6,)) == ["fd00::1"]


@pytest.mark.parametrize(
    "more",
    [
        {"ready": False},
        {"leaving": True},
        {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}},
    ],
)
def test_nodes_that_clients_are_not_to_be_sent_to(more: dict[str, Any]) -> None:
    """Not ready, about to go, or excluded."""
    assert got(service(), N1, node("x", "10.0.0.9", **more), families=(4,)) == ["10.0.0.1"]


def test_external_addresses_come_before_internal_ones() -> None:
    """Of each family by itself, and over all nodes: clients do not get a mixture."""
    outside = node("o", "10.0.0.3", "fd00::3", external=("192.0.2.3",))
    assert got(service(), N1, outside) == ["192.0.2.3", "fd00::1", "fd00::3"]


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({"io.cilium.nodeipam/match-node-labels": "role=edge"}, ["10.0.0.1"]),
        ({"io.cilium.nodeipam/match-node-labels": "role in (edge,core)"}, ["10.0.0.1", "10.0.0.2"]),
        ({"nodeipam.cilium.io/match-node-labels": "role!=edge"}, ["10.0.0.2"]),
        ({"service.cilium.io/node": "beefy"}, ["10.0.0.1"]),
        ({"service.cilium.io/node-selector": "role=core"}, ["10.0.0.2"]),
        ({"service.cilium.io/node-selector": "role=core", "service.cilium.io/node": "beefy"},
         ["10.0.0.2"]),
        ({"io.cilium.nodeipam/match-node-labels": "role=core", "service.cilium.io/node": "beefy"},
         []),
    ],
)  # fmt: skip
def test_annotations_choose_nodes(annotations: dict[str, str], names: list[str]) -> None:
    """Both for Node IPAM alone, and those that say where a service is served at all."""
    assert got(service(annotations), N1, N2, families=(4,)) == names


def test_local_needs_a_ready_endpoint_on_the_node() -> None:
    """With externalTrafficPolicy Cluster endpoints do not matter."""
    assert got(service(local=True), N1, N2, local=("n2",), families=(4,)) == ["10.0.0.2"]
    outcome = choose(service(local=True), [N1], (), (4,), ())
    assert (outcome.reason, "endpoint" in outcome.message) == ("no_node", True)


def test_what_is_missing_is_said() -> None:
    """A family without addresses matters only to who requires both."""
    four = node("n", "10.0.0.1")
    prefer = choose(service(family_policy="PreferDualStack"), [four], (), (4, 6), ())
    assert prefer == Outcome((ip_address("10.0.0.1"),))
    require = choose(service(family_policy="RequireDualStack"), [four], (), (4, 6), ())
    assert (require.reason, len(require.addresses)) == ("no_address", 1)
    assert "IPv6" in require.message
    assert choose(service(), [four], (), (6,), ()).reason == "no_address"
    assert choose(service(), [], (), (4,), ()).reason == "no_node"


def test_what_cannot_be_read_keeps_what_there_is() -> None:
    """The message names the annotation, or the field."""
    given = (ip_address("10.0.0.1"),)
    row = service({"io.cilium.nodeipam/match-node-labels": "a in b"})
    outcome = choose(row, [N2], (), (4,), given)
    assert (outcome.addresses, outcome.reason) == (given, "invalid_selector")
    assert "metadata.annotations.io.cilium.nodeipam/match-node-labels: 'a in b'" in outcome.message
    assert choose(service(problem="spec.x: bad"), [N2], (), (4,), given).addresses == given


def obj(kind: str, labels: dict[str, str] | None = None, **body: Any) -> ClusterObject:
    return ClusterObject(ObjectKey(kind, "", "n"), "", labels=labels or {}, body=body)


def test_nodes_are_read_from_both_kinds() -> None:
    """A Node counts; one without addresses has those of its CiliumNode."""
    kube = decode_node(obj(
        "Node", {"a": "b"},
        spec={"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]},
        status={
            "addresses": [{"type": "Hostname", "address": "n"},
                          {"type": "ExternalIP", "address": "192.0.2.1"}],
            "conditions": [{"type": "Ready", "status": "Unknown"}],
        },
    ))  # fmt: skip
    assert (kube.external, kube.ready, kube.leaving) == ((ip_address("192.0.2.1"),), False, True)
    cilium = decode_cilium_node(obj("CiliumNode", spec={"addresses": [
        {"type": "InternalIP", "ip": "10.0.0.1"}, {"type": "CiliumInternalIP", "ip": "10.1.0.1"},
    ]}))  # fmt: skip
    assert cilium.internal == (ip_address("10.0.0.1"),) and cilium.usable
    assert merged_nodes([kube], [cilium]) == {"n": kube}
    bare = decode_node(obj("Node", {"a": "b"}))
    assert merged_nodes([bare], [cilium])["n"].internal == cilium.internal
    assert merged_nodes([bare], [cilium])["n"].labels == {"a": "b"}
    assert merged_nodes([], [cilium]) == {"n": cilium}


def test_slices_tell_where_ready_endpoints_are() -> None:
    """Ready unless said otherwise; slices of nobody are left out."""
    found = decode_slice(obj("EndpointSlice", {"kubernetes.io/service-name": "s"}, endpoints=[
        {"nodeName": "a"}, {"nodeName": "b", "conditions": {"ready": False}}, {},
        {"nodeName": "c", "conditions": {"ready": True}},
    ]))  # fmt: skip
    assert found is not None and found.nodes == {"a", "c"} and found.service == ("", "s")
    assert decode_slice(obj("EndpointSlice")) is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": {"addresses": [{"type": "InternalIP", "address": "x"}]}},
         "status.addresses[0].address"),
        ({"status": {"addresses": "x"}}, "status.addresses"),
        ({"spec": {"taints": ["x"]}}, "spec.taints"),
        ({"status": {"conditions": {}, "addresses": [1]}}, "status.addresses"),
    ],
)  # fmt: skip
def test_bad_nodes_are_named(body: dict[str, Any], field: str) -> None:
    """Object and field."""
    with pytest.raises(InvalidObjectError) as caught:
        decode_node(obj("Node", **body))
    assert (caught.value.obj, caught.value.field) == ("Node n", field)
