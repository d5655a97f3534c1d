"""Services get addresses and EndpointSlices as a control plane would give them."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.lab import services
from axoneme.core.lab.model import Lab, PodRecord
from axoneme.core.lab.paths import LabPaths
from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.sync import SyncStore


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab on paper, with two pods of which one is selected."""
    monkeypatch.setattr("axoneme.core.lab.paths.RUNTIME_DIR", tmp_path)
    lab = Lab(LabPaths("paper"), (), {})
    store = SyncStore(lab.paths.store)
    for number, app in enumerate(("web", "other"), 2):
        store.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": app, "namespace": "demo", "labels": {"app": app}},
                "spec": {
                    "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}]
                },
            }
        )
        addresses = (ip_address(f"10.244.0.{number}"), ip_address(f"fd00::{number}"))
        PodRecord("demo", app, "node1", "u", "c", "/run/netns/x", addresses).save(lab.paths)
    return lab


def service(name: str, **spec: Any) -> dict[str, Any]:
    """A Service that selects web."""
    ports = [{"name": "http", "port": 8080, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
    }


def test_a_service_gets_an_address_of_each_family_and_keeps_it(lab: Lab) -> None:
    """The lowest free ones; another run, with one more service, changes nothing."""
    store = SyncStore(lab.paths.store)
    store.apply(service("web"))
    services.reconcile(lab, store)
    first = store.get(ObjectKey("Service", "demo", "web")).spec["clusterIPs"]
    store.apply(service("a-newer-one"))
    services.reconcile(lab, store)
    assert first == ["10.96.0.1", "fd00:10:96::1"]
    assert store.get(ObjectKey("Service", "demo", "web")).spec["clusterIPs"] == first
    other = store.get(ObjectKey("Service", "demo", "a-newer-one")).spec
    assert other["clusterIPs"] == ["10.96.0.2", "fd00:10:96::2"]


def test_slices_hold_the_selected_pods_and_resolve_named_ports(lab: Lab) -> None:
    """One slice per family; the port is the container's."""
    store = SyncStore(lab.paths.store)
    store.apply(service("web"))
    services.reconcile(lab, store)
    four, six = sorted(store.list("EndpointSlice"), key=lambda o: o.key)
    assert [e["addresses"] for e in four.body["endpoints"]] == [["10.244.0.2"]]
    assert [e["addresses"] for e in six.body["endpoints"]] == [["fd00::2"]]
    assert four.body["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]


def test_headless_services_get_no_address_and_slices_go_with_their_service(lab: Lab) -> None:
    """``clusterIP: None`` stays; a deleted service leaves no slice."""
    store = SyncStore(lab.paths.store)
    store.apply(service("web", clusterIP="None"))
    services.reconcile(lab, store)
    assert store.get(ObjectKey("Service", "demo", "web")).spec["clusterIP"] == "None"
    assert len(store.list("EndpointSlice")) == 2
    store.delete(ObjectKey("Service", "demo", "web"))
    services.reconcile(lab, store)
    assert store.list("EndpointSlice") == []
