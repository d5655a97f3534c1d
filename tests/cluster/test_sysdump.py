"""A dump of a lab: what its agents say, its logs and objects; a Secret's value is not in it."""

from __future__ import annotations

import base64
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab]

VALUE = "correct-horse-battery-staple"
ENCODED = base64.b64encode(VALUE.encode()).decode()
OBJECTS = f"""
apiVersion: v1
kind: Secret
metadata: {{name: database, namespace: shop, annotations: {{a: {VALUE}}}}}
data: {{password: {ENCODED}}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: shop}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: shop, labels: {{app: web}}}}
spec:
  containers:
  - {{name: c, env: [{{name: DB, value: {VALUE}}}], ports: [{{containerPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""


def test_a_lab_is_dumped(cluster: Any, tmp_path: Path) -> None:
    """From its sockets, while one agent is away, whose log is there all the same."""
    cluster.up(2)
    cluster.apply(OBJECTS)
    log = cluster.root / "nodes" / "node1" / "agent.log"
    with log.open("a") as file:
        file.write(f"an error that quotes {VALUE}\n")
    cluster.agent("node2", "stop")
    path = tmp_path / "dump.tar.gz"
    done = cluster.run("sysdump", "--lab", cluster.root.name, "--output", str(path))
    assert "node2" in done.stderr and str(path) in done.stdout
    files = {}
    with tarfile.open(path) as tar:
        for member in tar:
            found = tar.extractfile(member)
            assert found is not None
            files[member.name.removeprefix("dump/")] = found.read()
    for name, data in files.items():
        assert VALUE.encode() not in data and ENCODED.encode() not in data, name

    def read(name: str) -> Any:
        return json.loads(files[name])

    assert read("nodes/node1/status.json")["health"]
    assert any(m["name"] == "axo_ipcache" for m in read("nodes/node1/maps.json"))
    assert any(s["key"] == "routing-mode" for s in read("nodes/node1/config.json"))
    assert any(m["name"] == "cilium_endpoint" for m in read("nodes/node1/metrics.json"))
    assert read("nodes/node1/identities.json") and read("nodes/node1/services.json")
    assert read("nodes/node1/config-drift.json") == []
    assert "nodes/node1/endpoints.json" in files and "nodes/node1/policy-selectors.json" in files
    assert b"agent ready" in files["nodes/node1/agent.log"]
    assert b"an error that quotes <redacted>" in files["nodes/node1/agent.log"]
    assert b"agent stopped" in files["nodes/node2/agent.log"]
    assert b"leading" in files["operator.log"]
    assert "nodes/node2/status.json" not in files
    assert any(p.startswith("nodes/node2/status.json") for p in read("problems.json"))
    assert not any(p.startswith("nodes/node1") for p in read("problems.json"))
    assert [s["keys"] for s in read("objects/Secret.json")] == [["password"]]
    assert {n["metadata"]["name"] for n in read("objects/CiliumNode.json")} == {"node1", "node2"}
