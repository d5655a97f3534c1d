"""What is left of an object, and that it is all that its readers look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from axoneme.core.endpoints.pods import decode_namespace, decode_pod
from axoneme.core.errors import StoreError
from axoneme.core.identities.objects import decode_identity
from axoneme.core.ipcache.remote import decode_cluster_endpoint
from axoneme.core.k8s.feed import read
from axoneme.core.k8s.slim import KINDS, LAST_APPLIED, Decoder, decode, encode
from axoneme.core.model.objects import ClusterObject
from axoneme.core.nodes.objects import decode_node
from axoneme.core.store.kinds import KindRegistry

META: dict[str, Any] = {
    "name": "web",
    "namespace": "apps",
    "uid": "0b1e7f0a-1111",
    "resourceVersion": "12",
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "labels": {"app": "web"},
    "annotations": {LAST_APPLIED: "{}", "a.io/b": "c"},
    "managedFields": [{"manager": "kubelet"}],
}
PORT = {"name": "http", "containerPort": 80, "hostPort": 8080, "protocol": "TCP"}
CONTAINER = {"name": "c", "image": "big", "env": [{"name": "A"}], "ports": [PORT]}
WHOLE: dict[str, dict[str, Any]] = {
    "Pod": {
        "spec": {
            "nodeName": "n1",
            "serviceAccountName": "robot",
            "volumes": [{"name": "v"}],
            "containers": [CONTAINER],
            "initContainers": [{**CONTAINER, "ports": [{**PORT, "name": "admin"}]}],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready"}]},
    },
    "Namespace": {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
    "CiliumNode": {
        "spec": {
            "addresses": [{"type": "InternalIP", "ip": "172.18.0.2"}],
            "ipam": {"podCIDRs": ["10.1.0.0/24", "fd00::/64"]},
        },
        "status": {"ipam": {}},
    },
    "CiliumEndpoint": {
        "status": {
            "id": 7,
            "identity": {"id": 4711, "labels": ["k8s:app=web"]},
            "networking": {
                "addressing": [{"ipv4": "10.1.0.9", "ipv6": "fd00::9"}],
                "node": "172.18.0.2",
            },
            "named-ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            "policy": {"ingress": {"enforcing": True}},
        }
    },
    "CiliumIdentity": {"security-labels": {"k8s:app": "web", "k8s:io.x": "y"}},
}
READERS: dict[str, Callable[[ClusterObject], Any]] = {
    "Pod": partial(decode_pod, node="n1"),
    "Namespace": decode_namespace,
    "CiliumNode": partial(decode_node, local_name="n2"),
    "CiliumEndpoint": decode_cluster_endpoint,
    "CiliumIdentity": decode_identity,
}
REGISTRY = KindRegistry()


def whole(kind: str) -> dict[str, Any]:
    """As the server sends it."""
    meta = META | ({"name": "4711"} if kind == "CiliumIdentity" else {})
    notes = {k: v for k, v in META["annotations"].items() if k != LAST_APPLIED}
    head = {"kind": kind, "apiVersion": REGISTRY.get(kind).api_version}
    return head | {"metadata": meta | {"annotations": notes}} | WHOLE.get(kind, {})


def line(kind: str, body: Any) -> bytes:
    """Of a watch."""
    return json.dumps({"type": kind, "object": body}).encode()


@pytest.mark.parametrize("kind", READERS)
def test_a_reader_finds_all_that_it_looks_at(kind: str) -> None:
    """The same row from a slim object, from what is kept of it, and from the whole one."""
    decoder, known = Decoder(kind), REGISTRY.get(kind)
    expected = READERS[kind](read(known, whole(kind)))
    assert expected is not None
    said, body = decoder.event(line("ADDED", whole(kind)))
    text = encode(body)
    assert said == "ADDED"
    assert len(text) < len(json.dumps(whole(kind)))
    for slim in (body, decode(text)):
        obj = read(known, slim)
        assert READERS[kind](obj) == expected
        assert (obj.resource_version, obj.api_version) == ("12", known.api_version)
    page = {"metadata": {"resourceVersion": "40", "continue": "t"}, "items": [whole(kind)]}
    items, token, version = decoder.page(json.dumps(page).encode())
    assert (token, version) == ("t", "40")
    assert READERS[kind](read(known, items[0])) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_another_form_is_its_readers_business(kind: str) -> None:
    """Nothing fails here, and what is wrong is still there to be named."""
    for field in ("spec", "status", "security-labels", "endpoints"):
        body = {"metadata": {"name": "a", "labels": None}, field: ["a list"]}
        said, found = Decoder(kind).event(line("MODIFIED", body))
        assert said == "MODIFIED"
        assert found.get(field, ["a list"]) == ["a list"]
        items, _, _ = Decoder(kind).page(json.dumps({"items": [body, body]}).encode())
        assert len(items) == 2
    assert Decoder(kind).page(b'{"metadata": {}, "items": null}') == ([], "", "")


def test_other_kinds_are_whole_but_for_what_nobody_reads() -> None:
    """Of policies, say, everything counts."""
    body = {"metadata": META, "spec": {"a": [{"b": 1.5}]}, "x": None}
    _, found = Decoder("CiliumNetworkPolicy").event(line("ADDED", body))
    assert found["metadata"].pop("annotations") == {"a.io/b": "c"}
    assert "managedFields" not in found["metadata"]
    assert (found["spec"], found["x"]) == ({"a": [{"b": 1.5}]}, None)
    assert decode(encode(found)) == found


@pytest.mark.parametrize("kind", ["Pod", "ConfigMap"])
def test_an_end_of_a_watch_is_told(kind: str) -> None:
    """A Status comes where an object would."""
    body = {"kind": "Status", "metadata": {}, "message": "too old", "code": 410}
    said, found = Decoder(kind).event(line("ERROR", body))
    assert (said, found["code"], found["message"]) == ("ERROR", 410, "too old")


@pytest.mark.parametrize("text", [b"<html>", b"", b"[]", b'{"type": 1}', b'{"type": "ADDED"}'])
def test_what_is_no_answer_is_an_error_of_the_way(text: bytes) -> None:
    """A proxy's page."""
    with pytest.raises(StoreError, match="no JSON"):
        Decoder("Pod").event(text)
