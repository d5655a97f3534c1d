"""Node IPAM in a real operator, over a folder of manifests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from axoneme.core.operator.balancers import NODE_SATISFIED, SATISFIED
from axoneme.core.testing.operators import OperatorBench, eventually

CLASS = ", loadBalancerClass: io.cilium/node"


def service(name: str, more: str = CLASS, kind: str = "LoadBalancer", meta: str = "") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default {meta}}}
spec: {{type: {kind}, ports: [{{port: 80}}], ipFamilies: [IPv4, IPv6] {more}}}
"""


def cilium_node(name: str, number: int) -> str:
    return f"""
apiVersion: cilium.io/v2
kind: CiliumNode
metadata: {{name: {name}}}
spec:
  addresses:
  - {{type: InternalIP, ip: 172.18.0.{number}}}
  - {{type: InternalIP, ip: "fd00::{number}"}}
"""


def kube_node(name: str, address: str, ready: str = "True") -> str:
    return f"""
apiVersion: v1
kind: Node
metadata: {{name: {name}}}
status:
  addresses: [{{type: ExternalIP, address: {address}}}]
  conditions: [{{type: Ready, status: "{ready}"}}]
"""


def endpoints(service: str, *nodes: str) -> str:
    listed = ", ".join(f"{{addresses: [10.0.0.1], nodeName: {n}}}" for n in nodes)
    return f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {service}-1
  namespace: default
  labels: {{kubernetes.io/service-name: {service}}}
addressType: IPv4
endpoints: [{listed}]
"""


def run(work: Callable[[OperatorBench], Awaitable[None]], folder: Path, **keys: str) -> None:
    bench = OperatorBench(folder, enable_node_ipam="true", **keys)
    asyncio.run(asyncio.wait_for(work(bench), 120))


def reason(bench: OperatorBench, name: str) -> str:
    return str(bench.condition("Service", name, NODE_SATISFIED).get("reason", ""))


FOUR = ["172.18.0.1", "172.18.0.2", "fd00::1", "fd00::2"]


def test_nodes_come_and_go(tmp_path: Path) -> None:
    """Addresses follow nodes; another class, and a pool, are none of its business."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(cilium_node("n1", 1))
        bench.apply(service("s") + "---" + service("other", ""))
        async with bench.running():
            await eventually(lambda: bench.ingress("s") == ["172.18.0.1", "fd00::1"])
            bench.apply(cilium_node("n2", 2))
            await eventually(lambda: sorted(bench.ingress("s")) == FOUR)
            entries = bench.get("Service", "s").status["loadBalancer"]["ingress"]
            assert {e["ipMode"] for e in entries} == {"VIP"} and reason(bench, "s") == "satisfied"
            bench.store.delete(bench.get("CiliumNode", "n1").key)
            await eventually(lambda: bench.ingress("s") == ["172.18.0.2", "fd00::2"])
            bench.apply(kube_node("n2", "192.0.2.2"))
            await eventually(lambda: reason(bench, "s") == "satisfied"
                             and bench.ingress("s") == ["192.0.2.2"])  # fmt: skip
            node = bench.get("Node", "n2")
            unready = {**node.status, "conditions": [{"type": "Ready", "status": "False"}]}
            bench.store.update_status(node.key, unready)
            await eventually(lambda: bench.ingress("s") == [] and reason(bench, "s") == "no_node")
        assert bench.get("Service", "other").status == {}

    run(work, tmp_path)


def test_local_policy_follows_endpoints(tmp_path: Path) -> None:
    """Only nodes with a ready endpoint, as slices change."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(cilium_node("n1", 1) + "---" + cilium_node("n2", 2))
        bench.apply(service("s", CLASS + ", externalTrafficPolicy: Local"))
        async with bench.running():
            await eventually(lambda: reason(bench, "s") == "no_node")
            bench.apply(endpoints("s", "n2"))
            await eventually(lambda: bench.ingress("s") == ["172.18.0.2", "fd00::2"])
            bench.apply(endpoints("s", "n1", "n2"))
            await eventually(lambda: sorted(bench.ingress("s")) == FOUR)
            bench.store.delete(bench.get("EndpointSlice", "s-1").key)
            await eventually(lambda: bench.ingress("s") == [])

    run(work, tmp_path)


def test_who_leaves_is_cleaned_up(tmp_path: Path) -> None:
    """Another type while we run, another class while we do not; host names stay."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(cilium_node("n1", 1))
        bench.apply(service("a") + "---" + service("b"))
        theirs = {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}
        bench.store.update_status(bench.get("Service", "a").key, theirs)
        async with bench.running():
            await eventually(lambda: len(bench.ingress("a")) == 3 and bench.ingress("b"))
            bench.apply(service("a", "", "ClusterIP"))
            await eventually(lambda: bench.ingress("a") == ["lb.example"])
            assert reason(bench, "a") == ""
        bench.apply(service("b", ", loadBalancerClass: example.com/x"))
        async with bench.running():
            await eventually(lambda: bench.ingress("b") == [])
        assert "conditions" not in bench.get("Service", "b").status

    run(work, tmp_path)


def test_services_without_a_class_change_hands_with_the_key(tmp_path: Path) -> None:
    """From pools to nodes and back, over restarts; each takes its own out."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(cilium_node("n1", 1) + "---" + service("s", ""))
        bench.apply("""
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: {name: p}
spec: {blocks: [{cidr: 10.0.0.0/24}, {cidr: "fd01::/120"}]}
""")
        for _ in range(2):
            async with bench.running():
                await eventually(lambda: bench.ingress("s") == ["10.0.0.0", "fd01::"])
                await eventually(lambda: reason(bench, "s") == "")
            async with bench.running(default_lb_service_ipam="nodeipam"):
                await eventually(lambda: bench.ingress("s") == ["172.18.0.1", "fd00::1"])
                await eventually(lambda: not bench.condition("Service", "s", SATISFIED))

    run(work, tmp_path)


def test_bad_objects_stop_nobody(tmp_path: Path) -> None:
    """A bad node, a bad selector: told by name, others are served."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(cilium_node("n1", 1))
        bench.apply(cilium_node("bad", 2).replace("172.18.0.2", "nonsense"))
        meta = ", annotations: {io.cilium.nodeipam/match-node-labels: 'a in b'}"
        bench.apply(service("bad", meta=meta) + "---" + service("good"))
        async with bench.running():
            await eventually(lambda: bench.ingress("good") == ["172.18.0.1", "fd00::1"])
            await eventually(lambda: reason(bench, "bad") == "invalid_selector")
            assert bench.ingress("bad") == []

    run(work, tmp_path)
