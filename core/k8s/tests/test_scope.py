"""What a process may read is what it asks for: a watch of one object needs the right to that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from axoneme.core.k8s.access import open_access
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.operators import eventually

pytestmark = pytest.mark.needs("kubernetes")

SETUP = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: agent, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: agent, namespace: kube-system}
rules:
- {apiGroups: [""], resources: [configmaps], resourceNames: [mine], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: agent, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: agent}
subjects: [{kind: ServiceAccount, name: agent, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: mine, namespace: kube-system}
data: {a: "1"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other, namespace: kube-system}
data: {a: "1"}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With an account that may read one ConfigMap."""
    with api_server(tmp_path_factory.mktemp("scope")) as running:
        running.kubectl("apply", "-f", "-", text=SETUP)
        yield running


def test_one_object_is_followed_with_the_right_to_it_alone(
    server: ApiServer, tmp_path: Path
) -> None:
    """List and watch both; without the name the server refuses, and the store says so."""
    token = server.kubectl("create", "token", "agent", "-n", "kube-system").strip()
    kubeconfig = tmp_path / "kubeconfig"
    server.write_kubeconfig(kubeconfig, token)

    async def work() -> None:
        store = KubernetesStore(await open_access(str(kubeconfig)))
        events = store.watch("ConfigMap", "mine", "kube-system")
        first, second = await anext(events), await anext(events)
        assert (first.type, second.type) == ("added", "synced")
        assert first.key is not None and first.key.name == "mine"
        await asyncio.to_thread(
            server.kubectl, "patch", "cm", "mine", "-n", "kube-system", "-p", '{"data":{"a":"2"}}'
        )
        changed = await anext(events)
        assert changed.obj is not None and changed.obj.body["data"] == {"a": "2"}
        assert store.problems() == ()
        all_of_them = asyncio.ensure_future(anext(store.watch("ConfigMap", "", "kube-system")))
        await eventually(lambda: any("refuses" in problem for problem in store.problems()))
        all_of_them.cancel()
        await asyncio.gather(all_of_them, return_exceptions=True)
        await store.close()

    asyncio.run(asyncio.wait_for(work(), 60))
