"""The operator at a real API server: definitions, election, and work on objects of both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from axoneme.core.boot import boot
from axoneme.core.operator import Operator
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.capabilities import missing
from axoneme.core.testing.operators import eventually

POOL = """
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: {name: blue}
spec: {blocks: [{cidr: 203.0.113.0/28}]}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, ports: [{port: 80}], selector: {app: web}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Without any definition of ours."""
    if why := missing("kubernetes"):
        pytest.skip(why)
    with api_server(tmp_path_factory.mktemp("operator")) as running:
        yield running


def operator(server: ApiServer, folder: str) -> Operator:
    """One that shares the lease."""
    keys = {
        "store": "kubernetes",
        "k8s-kubeconfig-path": str(server.kubeconfig),
        "k8s-client-qps": "100",
        "k8s-client-burst": "200",
        "state-dir": folder,
        "leader-election-retry-period": "0.1s",
        "leader-election-renew-deadline": "1s",
        "leader-election-lease-duration": "2s",
        "plugins": "-ipam-cluster-pool -policy -tunnel -masquerade -native-routing",
    }
    return Operator(*boot(keys, {}))


def test_an_operator_brings_its_kinds_and_does_its_work(
    server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A pool's address in a Service's status; when the leader dies another goes on."""

    def address(name: str) -> str:
        path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
        return server.kubectl("get", "service", name, "-o", path)

    async def work() -> None:
        made = [operator(server, str(tmp_path_factory.mktemp("state"))) for _ in range(2)]
        tasks = [asyncio.create_task(o.run()) for o in made]
        await eventually(lambda: any(o.leading for o in made))
        await eventually(lambda: "cnp" in server.kubectl("api-resources"))
        await asyncio.to_thread(server.kubectl, "apply", "-f", "-", text=POOL + "---" + SERVICE)
        await eventually(lambda: address("web") == "203.0.113.0")
        assert sum(o.leading for o in made) == 1
        first = next(n for n, o in enumerate(made) if o.leading)
        tasks[first].cancel()
        await asyncio.gather(tasks[first], return_exceptions=True)
        await eventually(lambda: made[1 - first].leading)
        second = SERVICE.replace("name: web", "name: api")
        await asyncio.to_thread(server.kubectl, "apply", "-f", "-", text=second)
        await eventually(lambda: address("api") == "203.0.113.1")
        tasks[1 - first].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(work(), 120))
