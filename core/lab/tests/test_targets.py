"""Names of probes' ends."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from axoneme.core.errors import LabError
from axoneme.core.lab import probe, targets
from axoneme.core.lab.model import Lab, LabNode, PodRecord
from axoneme.core.lab.paths import LabPaths
from axoneme.core.store.sync import SyncStore

NODE = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNode",
    "metadata": {"name": "node1"},
    "spec": {
        "addresses": [
            {"type": "InternalIP", "ip": "172.18.0.2"},
            {"type": "CiliumInternalIP", "ip": "10.244.0.1"},
        ]
    },
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab on paper, with one node and one pod."""
    monkeypatch.setattr("axoneme.core.lab.paths.RUNTIME_DIR", tmp_path)
    node = LabNode("node1", IPv4Address("172.18.0.2"), IPv6Address("fd00:18::2"))
    lab = Lab(LabPaths("paper"), (node,), {})
    SyncStore(lab.paths.store).apply(NODE)
    addresses = (ip_address("10.244.1.2"),)
    PodRecord("demo", "web", "node2", "u", "c", "/run/netns/x", addresses).save(lab.paths)
    return lab


def test_a_drop_of_what_a_node_sends_is_known_by_any_of_its_addresses(lab: Lab) -> None:
    """To pods of other nodes it sends from its router address when there is a tunnel."""
    store = SyncStore(lab.paths.store)
    source, target = targets.source(lab, store, "node1"), targets.target(lab, store, "demo/web")
    order = probe.order(source, target, port=80)
    assert [str(a) for a in order.from_addresses] == ["172.18.0.2", "10.244.0.1"]


def test_a_pod_that_did_not_start_is_not_called_unknown(lab: Lab) -> None:
    """It is in the store, but it has no network."""
    store = SyncStore(lab.paths.store)
    store.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "late", "namespace": "demo"}}
    )
    with pytest.raises(LabError, match="has not started"):
        targets.target(lab, store, "demo/late")


def test_a_pod_without_its_namespace_is_pointed_out(lab: Lab) -> None:
    """Names without a namespace are of namespace default."""
    with pytest.raises(LabError, match="did you mean demo/web"):
        targets.source(lab, SyncStore(lab.paths.store), "web")
