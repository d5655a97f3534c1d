"""Labels, ids, requests and state files."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axoneme.core.endpoints import ids as ids_module
from axoneme.core.endpoints.files import EndpointFiles, SavedEndpoint
from axoneme.core.endpoints.ids import EndpointIds
from axoneme.core.endpoints.labels import PodLabeller, pod_labels
from axoneme.core.endpoints.links import derived_mac, host_name
from axoneme.core.endpoints.objects import encode_status
from axoneme.core.endpoints.pods import HostPort, Namespace, Pod, decode_pod
from axoneme.core.endpoints.request import EndpointRequest
from axoneme.core.errors import ConflictError, ExhaustedError, InvalidObjectError
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.model.endpoint import Endpoint, EndpointState, NamedPort
from axoneme.core.model.labels import Label, LabelSet
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ClusterObject, ObjectKey


def endpoint(number: int = 7) -> Endpoint:
    return Endpoint(
        id=number,
        attachment_id="c1:eth0",
        namespace="shop",
        pod="web-1",
        ipv4=IPv4Address("10.0.1.5"),
        ipv6=IPv6Address("fd00::5"),
        ifname="axo0123456789",
        ifindex=12,
        container_ifname="eth0",
        netns="/run/netns/x",
        mac="02:00:00:00:00:01",
        host_mac="02:00:00:00:00:02",
        mtu=1450,
        labels=LabelSet.of([Label("k8s", "a=b;c", "d=e"), Label("k8s", "app", "web")]),
        identity=300,
        named_ports=(NamedPort("http", 8080, "TCP"),),
    )


def test_a_plugin_sees_of_a_pod_what_is_the_same_everywhere() -> None:
    """The operator works labels out once for pods alike, before they have a node."""
    seen: list[Pod] = []

    def plugin(pod: Pod, namespace: Namespace, labels: LabelSet) -> LabelSet | None:
        seen.append(pod)
        return LabelSet.of([*labels, Label("x", "name", pod.name)])

    labeller = PodLabeller("c", LabelFilter.from_option(), [plugin])
    fields: dict[str, Any] = {
        "labels": (("app", "web"),),
        "annotations": (("note", "1"),),
        "service_account": "shop",
    }
    ports = (NamedPort("http", 80, "TCP"),)
    full = Pod(
        "shop", "web-1", "u", "n1", named_ports=ports, host_ports=(HostPort(1, 2),), **fields
    )
    plain = Pod("shop", "", "", "", **fields)
    assert labeller(full, Namespace("shop")) == labeller(plain, Namespace("shop"))
    assert seen == [plain, plain]


def test_a_namespace_cannot_call_itself_by_another_name() -> None:
    """Selectors by name go by this label, which a server enforces and a folder does not."""
    space = Namespace("shop", (("kubernetes.io/metadata.name", "kube-system"),))
    labels = pod_labels(Pod("shop", "web", "u", "n1"), space, "c")
    key = "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name"
    assert labels.get("k8s", key) == "shop"


def test_users_cannot_write_reserved_labels() -> None:
    """Labels that look like the namespace's are left out; the real ones come from metadata."""
    pod = Pod(
        "shop",
        "web",
        "u",
        "n1",
        labels=(
            ("app", "web"),
            ("io.kubernetes.pod.namespace", "kube-system"),
            ("io.cilium.k8s.namespace.labels.team", "admin"),
            ("io.cilium.k8s.namespace.labels.level", "one that the namespace has not got"),
            ("io.cilium.k8s.policy.serviceaccount", "root"),
            ("io.cilium.k8s.policy.cluster", "other"),
        ),
        service_account="shopper",
    )
    found = PodLabeller("here", LabelFilter.from_option())(pod, Namespace("shop", (("team", "a"),)))
    assert found.texts() == [
        "k8s:app=web",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
        "k8s:io.cilium.k8s.namespace.labels.team=a",
        "k8s:io.cilium.k8s.policy.cluster=here",
        "k8s:io.cilium.k8s.policy.serviceaccount=shopper",
        "k8s:io.kubernetes.pod.namespace=shop",
    ]


def test_plugins_have_the_last_word_about_labels_one_after_the_other() -> None:
    """Each sees what the one before has left; ``None`` leaves it."""

    def add(pod: Pod, namespace: Namespace, labels: LabelSet) -> LabelSet:
        return LabelSet.parse([*labels.texts(), f"k8s:zone={dict(pod.annotations)['zone']}"])

    def see(pod: Pod, namespace: Namespace, labels: LabelSet) -> None:
        assert labels.get("k8s", "zone") == "east"

    labeller = PodLabeller("here", LabelFilter.from_option(), (add, see))
    pod = Pod("shop", "web", "u", "n1", annotations=(("zone", "east"),))
    assert "k8s:zone=east" in labeller(pod, Namespace("shop")).texts()


@pytest.mark.parametrize(
    ("spec", "there"),
    [
        ({"nodeName": "n1"}, True),
        ({"nodeName": "n2"}, False),
        ({}, True),
        ({"nodeName": "n1", "hostNetwork": True}, False),
    ],
)
def test_only_pods_of_this_node_are_kept(spec: dict[str, object], there: bool) -> None:
    """Pods elsewhere and on the host's network are no rows here."""
    obj = ClusterObject(ObjectKey("Pod", "a", "b"), "v1", body={"spec": spec})
    assert (decode_pod(obj, "n1") is not None) is there


@pytest.mark.parametrize("port", [0, 70000, "80", None])
def test_pod_with_a_bad_port_is_refused(port: object) -> None:
    """A bad containerPort is refused by its path."""
    spec = {"containers": [{"ports": [{"name": "x", "containerPort": port}]}]}
    obj = ClusterObject(ObjectKey("Pod", "a", "b"), "v1", body={"spec": spec})
    with pytest.raises(InvalidObjectError, match=r"containers\[0\].ports"):
        decode_pod(obj, "n1")


def test_ids_go_round_and_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A freed id is the last to come again; a full node is an error of its own."""
    monkeypatch.setattr(ids_module, "MAX_ID", 3)
    ids = EndpointIds()
    assert [ids.allocate() for _ in range(2)] == [1, 2]
    ids.release(1)
    assert [ids.allocate(), ids.allocate()] == [3, 1]
    with pytest.raises(ExhaustedError):
        ids.allocate()
    with pytest.raises(ConflictError):
        ids.claim(2)


@pytest.mark.parametrize(
    "change",
    [
        {"container_id": "../etc"},
        {"container_id": ""},
        {"ifname": "a/b"},
        {"ifname": "0123456789abcdef"},
        {"ifname": ".."},
        {"netns": "relative"},
        {"netns": "/proc/../etc"},
        {"pod": "Bad_Name"},
        {"namespace": ""},
        {"mtu": 100},
    ],
)
def test_hostile_request_is_refused(change: dict[str, object]) -> None:
    """Whatever cannot be right is refused before anything is touched."""
    good = {
        "container_id": "c1",
        "ifname": "eth0",
        "netns": "/run/netns/x",
        "namespace": "a",
        "pod": "b",
    }
    EndpointRequest(**good).check()  # type: ignore[arg-type]
    with pytest.raises(InvalidObjectError):
        EndpointRequest(**{**good, **change}).check()  # type: ignore[arg-type]


def test_state_file_holds_everything(tmp_path: Path) -> None:
    """What is written is what is read, with the state that a restored endpoint has."""
    files = EndpointFiles(tmp_path / "endpoints")
    files.prepare()
    files.save(SavedEndpoint(endpoint(), addresses_given=True))
    (found,) = files.load()
    assert found.addresses_given
    assert found.endpoint.state == EndpointState.RESTORING
    assert found.endpoint.labels == endpoint().labels
    assert found.endpoint.named_ports == endpoint().named_ports
    assert (found.endpoint.ipv4, found.endpoint.ipv6) == (endpoint().ipv4, endpoint().ipv6)
    files.delete(7)
    files.delete(7)
    assert files.load() == []


def test_bad_state_files_are_set_aside(tmp_path: Path) -> None:
    """Half-written, foreign and renamed files cost their endpoint only."""
    files = EndpointFiles(tmp_path)
    files.prepare()
    files.save(SavedEndpoint(endpoint(7)))
    text = (tmp_path / "7.json").read_text()
    (tmp_path / "8.json").write_text(text[:40])
    (tmp_path / "9.json").write_text(text)
    (tmp_path / "10.json").write_text(json.dumps({"version": 99}))
    (tmp_path / ".11.json.tmp").write_text("x")
    assert [s.endpoint.id for s in files.load()] == [7]
    files.prepare()
    assert sorted(p.name for p in tmp_path.glob("*.*")) == ["10.bad", "7.json", "8.bad", "9.bad"]


@given(st.binary(max_size=200))
def test_any_bytes_in_a_state_file_are_survived(tmp_path_factory, raw: bytes) -> None:  # type: ignore[no-untyped-def]
    """No content of a state file stops the others from being read."""
    folder = tmp_path_factory.mktemp("files")
    files = EndpointFiles(folder)
    files.prepare()
    (folder / "3.json").write_bytes(raw)
    files.save(SavedEndpoint(endpoint(4)))
    assert [s.endpoint.id for s in files.load()] == [4]


def test_names_are_derived_and_fit() -> None:
    """The host's end is found without a record; addresses are local and unicast."""
    name = host_name("c1:eth0")
    assert name == host_name("c1:eth0")
    assert len(name) == 13
    assert name != host_name("c1:eth1")
    assert int(derived_mac("x").split(":")[0], 16) & 3 == 2


def test_status_has_the_fields_of_ciliumendpoint() -> None:
    """Names and shapes are those of cilium.io/v2."""
    status = encode_status(endpoint(), Node("n", ipv4=IPv4Address("172.18.0.2")), None, "shopper")
    assert status["identity"]["id"] == 300
    assert status["networking"] == {
        "addressing": [{"ipv4": "10.0.1.5", "ipv6": "fd00::5"}],
        "node": "172.18.0.2",
    }
    assert status["external-identifiers"]["k8s-pod-name"] == "web-1"
    assert status["named-ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert status["state"] == "creating"
