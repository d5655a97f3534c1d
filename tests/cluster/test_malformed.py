"""Malformed policies over good ones: each is refused by field, and what was in force stays.

The list is ``manifests/malformed-policies.yaml``. Objects are written straight into the store, as a
cluster without our validation would have them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from axoneme.core.api import client
from axoneme.core.lab.paths import LabPaths
from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.sync import SyncStore

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

Manifest = dict[str, Any]

MANIFESTS = Path(__file__).parent / "manifests"
CASES: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (MANIFESTS / "malformed-policies.yaml").read_text()
)
EVERY = [(kind, number) for kind, listed in CASES.items() for number in range(len(listed))]
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: spy, namespace: shop, labels: {app: spy}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
"""
GOOD = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress: [{fromEndpoints: [{matchLabels: {app: cart}}]}]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: p}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress: [{toEndpoints: [{matchLabels: {app: cart}}]}]
  egressDeny: [{toCIDRSet: [{cidrGroupRef: p}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  podSelector: {matchLabels: {app: spy}}
  ingress: [{from: [{podSelector: {matchLabels: {app: cart}}}], ports: [{port: 8080}]}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: p}
spec:
  tier: Admin
  priority: 10
  subject: {pods: {podSelector: {matchLabels: {app: cart}}}}
  ingress: [{action: Deny, from: [{pods: {podSelector: {matchLabels: {app: spy}}}}]}]
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: p}
spec: {externalCIDRs: [198.51.100.0/24]}
"""
BASE = {m["kind"]: m for m in yaml.safe_load_all(GOOD)}


def malformed(kind: str, number: int) -> Manifest:
    """A case as an object over the good one."""
    return {**BASE[kind], "spec": CASES[kind][number]["spec"]}


class Field:
    """One node with three pods, and a good policy of each kind."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.socket = LabPaths(lab.environment["AXONEME_LAB"]).socket("node1")
        self.store = SyncStore(lab.root / "store")

    def enforced(self) -> Any:
        """Every entry in the kernel, without what it has counted."""
        found = client.call(self.socket, "bpf.policy", {})
        for subject in found:
            for entry in subject["entries"]:
                del entry["bytes"], entry["packets"]
        return found

    def probes(self) -> dict[str, str]:
        """What real packets meet."""
        ways = (("cart", "web"), ("spy", "web"), ("web", "spy"), ("spy", "cart"), ("cart", "spy"))
        found = {}
        for source, target in ways:
            words = ("lab", "probe", f"shop/{source}", f"shop/{target}", "-o", "json")
            answer = json.loads(self.lab.run(*words).stdout)
            found[f"{source} {target}"] = answer["verdict"]
        return found

    def refusal(self, kind: str) -> str:
        """What is said of the present version of an object, once it is refused."""
        namespace = BASE[kind]["metadata"].get("namespace", "")
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if kind == "CiliumCIDRGroup":  # no policy: the agents say what is wrong with it
                text = json.dumps(client.call(self.socket, "status.get", {}))
                if "CiliumCIDRGroup p" in text:
                    return text
            elif not self.valid(kind):  # the agent has read it
                status = self.store.get(ObjectKey(kind, namespace, "p")).status
                for condition in status.get("conditions") or ():
                    if condition["type"] == "Valid" and condition["status"] == "False":
                        return str(condition["message"])
            time.sleep(0.02)
        raise AssertionError(f"{kind} is not refused")

    def valid(self, kind: str) -> bool:
        """Whether the agent takes the present version."""
        listed = client.call(self.socket, "policy.get", {})["policies"]
        return any(p["valid"] for p in listed if p["kind"] == kind)

    def restore(self) -> None:
        """The good policies again; returns when agent and operator say so."""
        for manifest in BASE.values():
            self.store.apply(manifest)
        end = time.monotonic() + 10
        while not all(self.is_good(kind) for kind in BASE):
            assert time.monotonic() < end, "the good policies are not taken"
            time.sleep(0.02)

    def is_good(self, kind: str) -> bool:
        """Whether nobody has anything to say against an object."""
        if kind == "CiliumCIDRGroup":
            text = json.dumps(client.call(self.socket, "status.get", {}))
            return "CiliumCIDRGroup p" not in text
        namespace = BASE[kind]["metadata"].get("namespace", "")
        status = self.store.get(ObjectKey(kind, namespace, "p")).status
        conditions = status.get("conditions") or ()
        return self.valid(kind) and all(c["status"] == "True" for c in conditions)


@pytest.fixture(scope="module")
def field(cluster: Any) -> Iterator[Field]:
    """The lab, and the good policies in force."""
    cluster.up(1, enable_k8s_cluster_network_policy="true")
    cluster.apply(PODS)
    found = Field(cluster)
    found.restore()
    time.sleep(0.5)
    yield found
    cluster.down()


EXPECTED = {"cart web": "allowed", "spy web": "denied", "web spy": "denied",
            "spy cart": "denied", "cart spy": "allowed"}  # fmt: skip


def test_each_is_refused_by_field_and_changes_nothing(field: Field) -> None:
    """Status names object and field; entries stay as they are, and so does what packets meet."""
    assert len(EVERY) >= 60
    before = field.enforced()
    assert field.probes() == EXPECTED
    for count, (kind, number) in enumerate(EVERY):
        case = CASES[kind][number]
        field.store.apply(malformed(kind, number))
        said = field.refusal(kind)
        assert case["field"] in said and case["says"] in said, (kind, case, said)
        assert field.enforced() == before, (kind, case)
        if count % 15 == 0:
            assert field.probes() == EXPECTED, (kind, case)
        field.restore()
    assert field.enforced() == before


def test_a_restart_keeps_what_was_in_force(field: Field) -> None:
    """A bad version is all that the store has when the agent starts: the last good one counts."""
    before = field.enforced()
    for kind in BASE:
        field.store.apply(malformed(kind, 0))
    for kind in BASE:
        field.refusal(kind)
    field.lab.run("lab", "agent", "node1", "restart")
    assert field.enforced() == before
    assert field.probes() == EXPECTED
    field.restore()


def test_validate_says_the_same_of_files(field: Field, tmp_path: Path) -> None:
    """One error for each, with its field and the line of it; exit code 1."""
    path = tmp_path / "bad.yaml"
    unenforceable = ("needs the host firewall", "nodes have no labels")
    listed = [(k, n) for k, n in EVERY if CASES[k][n]["says"] not in unenforceable]
    listed = [(k, n) for k, n in listed if CASES[k][n]["field"] != "spec.nodeSelector"]
    for number, (kind, n) in enumerate(listed):
        manifest = malformed(kind, n)
        manifest["metadata"] = {**manifest["metadata"], "name": f"p{number}"}
        with path.open("a") as file:
            file.write("---\n" + yaml.safe_dump(manifest))
    done = field.lab.run("policy", "validate", "-f", str(path), "-o", "json", check=False)
    assert done.returncode == 1
    found = json.loads(done.stdout)["findings"]
    by_object: dict[str, list[str]] = {}
    for finding in found:
        assert finding["line"] > 0
        by_object.setdefault(finding["object"].rpartition("/")[2].split()[-1], []).append(
            finding["field"]
        )
    for number, (kind, n) in enumerate(listed):
        assert CASES[kind][n]["field"] in by_object.get(f"p{number}", []), (kind, CASES[kind][n])
