"""The definitions at a real API server: it takes them, and what users write by them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from axoneme.core.errors import LabError
from axoneme.core.k8s.access import open_access
from axoneme.core.k8s.definitions.install import install, ours
from axoneme.core.k8s.definitions.kinds import DEFINITIONS, VERSION_LABEL
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.testing.apiserver import ApiServer, api_server

POLICIES = Path(__file__).parents[4] / "deploy" / "examples" / "policies"


KUBERNETES = pytest.mark.needs("kubernetes")


def objects(path: Path) -> list[dict[str, Any]]:
    """The objects of our group in a file."""
    found = yaml.safe_load_all(path.read_text())
    return [d for d in found if d and str(d.get("apiVersion")).startswith("cilium.io/")]


EXAMPLES = [path for path in sorted(POLICIES.glob("*.yaml")) if objects(path)]


def installed(server: ApiServer) -> list[str]:
    """Install; what has changed."""

    async def work() -> list[str]:
        store = KubernetesStore(await open_access(str(server.kubeconfig)))
        try:
            return await install(store)
        finally:
            await store.close()

    return asyncio.run(work())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With our definitions."""
    with api_server(tmp_path_factory.mktemp("definitions")) as running:
        assert len(installed(running)) == len(ours(KindRegistry()))
        yield running


def test_every_kind_of_ours_has_a_schema() -> None:
    """A new one is missed here, not by users."""
    assert {k.kind for k in ours(KindRegistry())} == set(DEFINITIONS)


@KUBERNETES
def test_installing_again_changes_nothing(server: ApiServer) -> None:
    """Nor does it wake whoever watches."""
    assert installed(server) == []


@KUBERNETES
def test_a_newer_release_s_definition_is_left_alone(server: ApiServer) -> None:
    """And an older one is brought up to date."""
    name = "crd/ciliumcidrgroups.cilium.io"
    server.kubectl("label", "--overwrite", name, f"{VERSION_LABEL}=99.0.0")
    assert installed(server) == []
    server.kubectl("label", "--overwrite", name, f"{VERSION_LABEL}=0.0.1")
    assert installed(server) == ["ciliumcidrgroups.cilium.io"]


@KUBERNETES
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_are_taken_without_a_field_that_is_not_known(
    server: ApiServer, path: Path
) -> None:
    """Strictly: what a schema forgets would be pruned without a word."""
    ours = objects(path)
    for namespace in {d["metadata"].get("namespace", "default") for d in ours}:
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        server.kubectl("apply", "-f", "-", text=yaml.safe_dump(made))
    text = yaml.safe_dump_all(ours)
    server.kubectl("apply", "--validate=strict", "--dry-run=server", "-f", "-", text=text)


@KUBERNETES
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "either spec or specs must be there"),
        ("spec: {endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: 80}]}]}]}", "string"),
        ("spec: {endpointSelector: {}, egress: [{icmps: [{fields: [{family: IPv5, type: 8}]}]}]}",
         "IPv5"),
        ("spec: {endpointSelector: {}, ingres: []}", "unknown field"),
        ("spec: {endpointSelector: {matchExpressions: [{key: a, operator: Near}]}}", "Near"),
    ],
)  # fmt: skip
def test_the_server_refuses_what_the_schema_does(server: ApiServer, body: str, words: str) -> None:
    """Before any agent sees it; the message names the field."""
    head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: bad}\n"
    text = head + ("" if body == "{}" else body)
    with pytest.raises(LabError, match=words):
        server.kubectl("apply", "--validate=strict", "-f", "-", text=text)


@KUBERNETES
def test_views_read_well(server: ApiServer) -> None:
    """Short names, columns, explanations."""
    server.kubectl(
        "apply", "-f", "-",
        text="apiVersion: cilium.io/v2\nkind: CiliumIdentity\n"
        "metadata: {name: '1234', labels: {io.kubernetes.pod.namespace: shop}}\n"
        "security-labels: {'k8s:app': web}\n",
    )  # fmt: skip
    heading, row = server.kubectl("get", "ciliumid").splitlines()
    assert heading.split() == ["NAME", "NAMESPACE", "AGE"]
    assert row.split()[:2] == ["1234", "shop"]
    assert "Whose traffic" in server.kubectl("explain", "cnp.spec.endpointSelector")
    assert "cnp" in server.kubectl("api-resources", "--api-group", "cilium.io")


@KUBERNETES
def test_a_status_without_an_address_of_its_own_is_written(server: ApiServer) -> None:
    """CiliumEndpoint's, and a node's, which has one."""

    async def work() -> None:
        store = KubernetesStore(await open_access(str(server.kubeconfig)))
        try:
            head = {"apiVersion": "cilium.io/v2", "kind": "CiliumEndpoint"}
            meta = {"name": "web-1", "namespace": "default"}
            state = {"state": "ready", "networking": {"addressing": [{"ipv4": "10.0.0.1"}]}}
            made = await store.create({**head, "metadata": meta, "status": state})
            assert made.status == state
            key = ObjectKey("CiliumEndpoint", "default", "web-1")
            again = await store.update_status(key, {**state, "id": 7}, made.resource_version)
            assert again.status["id"] == 7
            node = {"apiVersion": "cilium.io/v2", "kind": "CiliumNode"}
            body = {**node, "metadata": {"name": "n1"}, "spec": {}}
            await store.create({**body, "status": {"ipam": {"operator-status": {"error": "x"}}}})
            found = await store.get(ObjectKey("CiliumNode", "", "n1"))
            assert found.status["ipam"]["operator-status"] == {"error": "x"}
        finally:
            await store.close()

    asyncio.run(work())
