"""The operator at a real API server: definitions, election, and work on objects of both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from axoneme.core.boot import boot
from axoneme.core.operator import Operator
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.operators import eventually

pytestmark = pytest.mark.needs("kubernetes")

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
        "plugins": "-ipam-cluster-pool -policy -tunnel -masquerade -native-routing",
    }
    return Operator(*boot(keys, {}))


def test_an_operator_brings_its_kinds_and_does_its_work(
    server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A pool's address in a Service's status; when the leader dies another goes on."""

    async def kubectl(*arguments: str, text: str = "") -> str:
        """In a thread: both operators live in this loop, and must renew their lease."""
        return await asyncio.to_thread(partial(server.kubectl, *arguments, text=text))

    async def address(name: str, wanted: str) -> None:
        path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
        for _ in range(100):
            if await kubectl("get", "service", name, "-o", path) == wanted:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"{name} does not get {wanted}")

    async def work() -> None:
        made = [operator(server, str(tmp_path_factory.mktemp("state"))) for _ in range(2)]
        tasks = [asyncio.create_task(o.run()) for o in made]
        await eventually(lambda: any(o.leading for o in made))
        first = next(n for n, o in enumerate(made) if o.leading)
        while "cnp" not in await kubectl("api-resources"):
            await asyncio.sleep(0.2)
        definition = "crd/ciliumloadbalancerippools.cilium.io"
        await kubectl("wait", "--for=condition=Established", definition, "--timeout=30s")
        await kubectl("apply", "-f", "-", text=POOL + "---" + SERVICE)
        await address("web", "203.0.113.0")
        tasks[first].cancel()
        await asyncio.gather(tasks[first], return_exceptions=True)
        await eventually(lambda: made[1 - first].leading)
        assert not made[first].leading
        await kubectl("apply", "-f", "-", text=SERVICE.replace("name: web", "name: api"))
        await address("api", "203.0.113.1")
        tasks[1 - first].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(work(), 120))
