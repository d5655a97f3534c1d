"""What of an object leaves the cluster: no value that a user keeps secret."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from axoneme.core.sysdump.redact import REDACTED, Scrubber, redacted, scrub, settings

VALUE = 'hunter2-"quoted"-ünïcode'
ENCODED = base64.b64encode(VALUE.encode()).decode()
LAST = "kubectl.kubernetes.io/last-applied-configuration"
META = {"name": "x", "namespace": "a", "labels": {"app": "x"}, "annotations": {LAST: VALUE}}


def shown(body: dict[str, Any]) -> str:
    """What is left, as text; the value is in it in no form."""
    text = json.dumps(redacted(body), ensure_ascii=False)
    assert VALUE not in text.replace('\\"', '"') and ENCODED not in text and "hunter2" not in text
    return text


def test_of_a_secret_only_names_are_left() -> None:
    """No annotation, no label, no value; which keys it has is worth to know."""
    body = {
        "kind": "Secret", "apiVersion": "v1", "metadata": META, "type": "Opaque",
        "data": {"password": ENCODED}, "stringData": {"other": VALUE},
        "somethingNew": VALUE,
    }  # fmt: skip
    shown(body)
    assert redacted(body) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "x", "namespace": "a"},
        "keys": ["other", "password"],
        "type": "Opaque",
    }


def test_of_a_config_map_only_keys_are_left_unless_it_is_ours() -> None:
    """In ours a key whose name speaks of a secret is hidden all the same."""
    body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": META, "data": {"app.ini": VALUE}}
    shown(body)
    assert redacted(body)["keys"] == ["app.ini"]
    ours = {
        "kind": "ConfigMap",
        "metadata": {"name": "axoneme-config", "namespace": "kube-system"},
        "data": {"mtu": "1500", "bpf-lb-maglev-hash-seed": VALUE},
    }
    shown(ours)
    assert redacted(ours)["data"] == {"mtu": "1500", "bpf-lb-maglev-hash-seed": REDACTED}


def pod_spec() -> dict[str, Any]:
    """With a value wherever a user may put one."""
    container = {
        "name": "c",
        "image": "i",
        "command": ["sh", "-c", VALUE],
        "args": [f"--password={VALUE}"],
        "env": [
            {"name": "K8S_NODE_NAME", "value": "n1"},
            {"name": "HARMLESS_LOOKING", "value": VALUE},
            {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ],
        "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "X", "value": VALUE}]}},
        "lifecycle": {"postStart": {"exec": {"command": [VALUE]}}},
    }
    return {
        "nodeName": "n1",
        "containers": [container],
        "initContainers": [container],
        "volumes": [
            {"name": "h", "hostPath": {"path": "/run"}},
            {"name": "v", "csi": {"volumeAttributes": {"key": VALUE}}},
        ],
    }


@pytest.mark.parametrize("kind", ["Pod", "DaemonSet", "Deployment", "StatefulSet", "ReplicaSet"])
def test_of_a_pod_values_of_variables_and_commands_are_hidden(kind: str) -> None:
    """In pods and in templates of them; variables of a short list are shown."""
    spec = pod_spec() if kind == "Pod" else {
        "template": {"metadata": META, "spec": pod_spec()},
    }  # fmt: skip
    text = shown({"kind": kind, "apiVersion": "v1", "metadata": META, "spec": spec})
    for word in ("K8S_NODE_NAME", '"n1"', "HARMLESS_LOOKING", "secretKeyRef", "/run"):
        assert word in text


def test_of_a_policy_values_of_headers_are_hidden() -> None:
    """Everything else of it is shown: that is what one looks for."""
    http = {
        "path": "/a",
        "headers": [f"X-Token: {VALUE}", "X-Plain"],
        "headerMatches": [{"name": "X-Token", "value": VALUE, "mismatch": "LOG",
                           "secret": {"namespace": "a", "name": "s"}}],
    }  # fmt: skip
    rule = {"toPorts": [{"ports": [{"port": "80"}], "rules": {"http": [http]}}]}
    body = {"kind": "CiliumNetworkPolicy", "metadata": META, "spec": {"ingress": [rule]}}
    text = shown(body)
    for word in ("X-Token", "X-Plain", '"port": "80"', '"/a"', '{"namespace": "a", "name": "s"}'):
        assert word in text


def test_annotations_are_kept_by_their_prefix() -> None:
    """Ours and Cilium's; of no others."""
    notes = {"service.cilium.io/global": "true", "io.cilium/x": "1", "evil/cilium.io/": VALUE}
    meta = {"name": "x", "annotations": {**notes, LAST: VALUE, "cilium.io.evil.com/a": VALUE}}
    body = {"kind": "Service", "metadata": meta, "spec": {"clusterIP": "10.0.0.1"}}
    shown(body)
    kept = redacted(body)["metadata"]["annotations"]
    assert kept == {"service.cilium.io/global": "true", "io.cilium/x": "1"}


def test_names_that_speak_of_a_secret_hide_their_value() -> None:
    """Texts and structures; references, truths and numbers stay."""
    found = scrub(
        {
            "authSecret": VALUE,
            "authSecretRef": {"name": "s", "namespace": "a"},
            "secretName": "tls",
            "nested": [{"password": {"deep": VALUE}, "token": True}],
            "env": [{"name": "DB_PASSWORD", "value": VALUE}],
            "row": {"key": "some-token", "running": VALUE, "wanted": VALUE, "source": "f"},
            "text": f"-----BEGIN PRIVATE KEY-----\n{VALUE}",
        }
    )
    assert "hunter2" not in json.dumps(found)
    assert found["authSecretRef"] == {"name": "s", "namespace": "a"}
    assert found["secretName"] == "tls" and found["nested"][0]["token"] is True
    assert settings({"mtu": "1", "api-token": "x"}) == {"mtu": "1", "api-token": REDACTED}


def test_what_is_too_deep_is_left_out() -> None:
    """A hostile object cannot exhaust the stack."""
    body: Any = VALUE
    for _ in range(5000):
        body = {"a": body}
    assert "hunter2" not in json.dumps(scrub(body))


def test_values_of_secrets_are_cut_out_of_every_text() -> None:
    """As they are, in base64, with JSON's escapes, and line by line."""
    scrubber = Scrubber()
    pem = "first-line-of-a-key\nsecond-line-of-it\n"
    scrubber.learn({"data": {"a": ENCODED, "b": base64.b64encode(pem.encode()).decode()}})
    scrubber.learn({"stringData": {"c": "another-one"}, "data": {"short": "dHJ1ZQ=="}})
    text = "\n".join(
        [f"log {VALUE}", ENCODED, json.dumps(VALUE), json.dumps(VALUE, ensure_ascii=False),
         "x second-line-of-it y", "another-one", "enabled: true", json.dumps(pem)]
    )  # fmt: skip
    out = scrubber(text.encode()).decode()
    for word in ("hunter2", ENCODED, "-line-of-", "another-one"):
        assert word not in out
    assert "enabled: true" in out
    assert Scrubber()(b"as it is") == b"as it is"
