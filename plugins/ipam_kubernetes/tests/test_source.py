"""From a Kubernetes Node to the pod CIDRs of a node, on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.devices import Device, NodeDevices
from axoneme.core.errors import ConfigError, InvalidObjectError, NotReadyError
from axoneme.core.ipam.allocator import NodeAllocator
from axoneme.core.model.endpoint import AddressRequest
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.nodes.directory import node_tables
from axoneme.core.nodes.local import LocalNode
from axoneme.core.nodes.objects import decode_node
from axoneme.core.state import TableRegistry
from axoneme.core.status import StatusReport
from axoneme.core.store import FolderStore, Store
from axoneme.core.store.manifest import to_object
from axoneme.core.store.reflector import Reflector
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.operators import eventually
from axoneme.plugins.ipam_kubernetes.config import check, register
from axoneme.plugins.ipam_kubernetes.source import NodeSource, node_cidrs

ETH0 = Device("eth0", 2, 1500, "02:00:00:00:00:01", (ip_address("172.18.0.2"),))


def manifest(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


def node(**spec: Any) -> ClusterObject:
    return to_object(manifest("n1", **spec), FolderStore(Path("/nowhere")).kinds)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"podCIDRs": ["10.1.0.0/24", "fd00:1::/64"], "podCIDR": "10.1.0.0/24"}, 2),
        ({"podCIDR": "10.1.0.0/24"}, 1),
        ({"podCIDRs": [], "podCIDR": "fd00:1::/64"}, 1),
        ({"podCIDRs": None}, 0),
        ({}, 0),
    ],
)
def test_both_fields_are_read(spec: Any, wanted: int) -> None:
    """The list counts; the older single field where there is no list."""
    found = node_cidrs(node(**spec))
    assert len(found) == wanted
    assert set(found) <= {ip_network("10.1.0.0/24"), ip_network("fd00:1::/64")}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"podCIDRs": ["10.1.0.0/24", "10.1.0.7/24"]}, r"spec\.podCIDRs\[1\]"),
        ({"podCIDRs": "10.1.0.0/24"}, r"spec\.podCIDRs: must be a list"),
        ({"podCIDR": "x"}, r"spec\.podCIDR: 'x'"),
    ],
)
def test_what_cannot_be_read_is_named_and_changes_nothing(spec: Any, field: str) -> None:
    """Object and field are in the error and the status; the node keeps what it has."""
    with pytest.raises(InvalidObjectError, match=f"Node n1: {field}"):
        node_cidrs(node(**spec))
    source = NodeSource("n1", (4,))
    present = {"podCIDRs": ["10.9.0.0/24"], "min-allocate": 3}
    assert source.wanted(present, node(**spec)) == present
    status = StatusReport()
    source.report(status)
    assert "Node n1: spec.podCIDR" in status.problems[0].message


def test_a_node_that_lost_its_prefixes_keeps_its_pods() -> None:
    """Registered anew it has none for a while; other fields are never touched."""
    source = NodeSource("n1", (4, 6))
    assert "Node n1 is not in the store" in source.why_missing((4,))
    given = source.wanted({"min-allocate": 3}, node(podCIDRs=["10.1.0.0/24"]))
    assert given == {"min-allocate": 3, "podCIDRs": ["10.1.0.0/24"]}
    assert "no IPv6 prefix" in source.why_missing((4, 6))
    assert source.wanted(given, node()) == given
    assert source.wanted(given, None) == given
    assert "no IPv4 and IPv6 prefix" in source.why_missing((4, 6))


def test_waiting_for_a_family_that_is_off_is_refused() -> None:
    """It would be for ever."""

    options = OptionRegistry()
    core_options.register(options)
    register(options)
    check(Config.of(options, enable_ipv6=False, k8s_require_ipv4_pod_cidr=True))
    with pytest.raises(ConfigError, match="k8s-require-ipv6-pod-cidr is true"):
        check(Config.of(options, enable_ipv6=False, k8s_require_ipv6_pod_cidr=True))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("nodes")) as running:
        yield running


@pytest.fixture(
    params=["folder", pytest.param("kubernetes", marks=pytest.mark.needs("kubernetes"))]
)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Opens a store."""
    if request.param == "folder":
        return lambda: FolderStore(tmp_path)
    from axoneme.core.k8s.access import open_access
    from axoneme.core.k8s.store import KubernetesStore

    running = request.getfixturevalue("server")
    access = asyncio.run(open_access(str(running.kubeconfig)))
    return lambda: KubernetesStore(access)


def test_the_start_waits_for_the_node_and_goes_on_by_itself(opener: Callable[[], Store]) -> None:
    """A required family that is missing is named; when Kubernetes gives it, others can see it."""

    async def work() -> None:
        store = opener()
        await store.prepare()
        seen, _ = node_tables(TableRegistry())
        local = LocalNode("n1", store, seen, ipv4=True, ipv6=True)
        local.devices = NodeDevices((ETH0,))
        local.source = NodeSource("n1", local.families)
        local.needed_families = (4, 6)
        allocator = NodeAllocator()
        local.on_pod_cidrs(allocator.set_prefixes)
        reflector: Reflector[str, Node] = Reflector(
            store, "CiliumNode", seen, lambda obj: decode_node(obj, "n1")
        )
        tasks = [asyncio.ensure_future(reflector.run())]
        await seen.initialized.wait()
        made = await store.apply(manifest("n1", podCIDR="10.1.0.0/29", podCIDRs=["10.1.0.0/29"]))
        await local.publish()
        tasks.append(asyncio.ensure_future(local.follow_kubernetes()))
        waiting = asyncio.ensure_future(local.wait_for_cidrs())
        await eventually(lambda: "no IPv6 prefix" in local.error)
        assert not waiting.done()
        with pytest.raises(NotReadyError, match="no IPv6 pod CIDR"):
            allocator.allocate(AddressRequest("a/b", ipv4=True, ipv6=True))
        # Kubernetes forbids to change what a Node has: it comes back as another one.
        await store.delete(made.key)
        both = ["10.1.0.0/29", "fd00:1::/64"]
        await store.apply(manifest("n1", podCIDR=both[0], podCIDRs=both))
        await asyncio.wait_for(waiting, 20)
        obj = await store.get(ObjectKey("CiliumNode", "", "n1"))
        assert obj.spec["ipam"]["podCIDRs"] == both
        assert {a["ip"] for a in obj.spec["addresses"]} >= {"10.1.0.1", "fd00:1::1"}
        pair = allocator.allocate(AddressRequest("a/b", ipv4=True, ipv6=True))
        assert [str(a) for a in pair] == ["10.1.0.3", "fd00:1::2"]  # the search goes on
        assert not local.error
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()

    asyncio.run(asyncio.wait_for(work(), 60))
