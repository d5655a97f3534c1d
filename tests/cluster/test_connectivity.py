"""``axoneme connectivity test`` in a lab: everything passes; what is broken by hand is found."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.services.modes import LabRun

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

BREAK = """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: by-hand}
spec:
  endpointSelector: {matchLabels: {kind: echo}}
  ingressDeny: [{fromEntities: [cluster]}]
  enableDefaultDeny: {ingress: false}
"""


class Up(LabRun):
    """A plain lab of two nodes."""

    def __enter__(self) -> Up:
        try:
            self.run("lab", "up")
        except BaseException:
            self.__exit__()
            raise
        return self


def test_all_scenarios_and_a_fault(tmp_path: Path) -> None:
    """In one lab: the whole list, then one theme with a policy in the way, then nothing is left."""
    with Up(f"axc{os.getpid() % 100000}", "snat", "tunnel") as lab:
        path = tmp_path / "junit.xml"
        out = lab.run("connectivity", "test", "--junit", str(path), "-o", "json")
        rows = json.loads(out)
        failed = [r for r in rows if r["state"] != "passed"]
        assert not failed and len(rows) >= 30
        suite = ET.parse(path).getroot()[0]
        assert suite.get("tests") == str(len(rows)) and suite.get("failures") == "0"
        lab.apply(BREAK)
        out = lab.run(
            "connectivity", "test", "--test", "pod-to-pod", "--test", "pod-to-dns", "--timeout",
            "2", "-o", "json", check=False,
        )  # fmt: skip
        states = {r["name"]: r for r in json.loads(out)}
        assert states["pod-to-dns"]["state"] == "passed"
        assert states["pod-to-pod"]["state"] == "failed"
        problem = states["pod-to-pod"]["problems"][0]
        assert "client → echo-same:8080 (tcp): expected allowed, was denied" in problem
        assert "axoneme-test" not in lab.run("lab", "pods", "-o", "json")
