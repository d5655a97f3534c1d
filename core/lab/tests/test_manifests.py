"""Reading manifests: every fault is one clear line that names file, document and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from axoneme.core.errors import AxonemeError
from axoneme.core.lab import manifests
from axoneme.core.store.sync import SyncStore

GOOD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c}]}\n"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {selector}}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: c, ports: [{{containerPort: {port}, protocol: {protocol}}}]}}]}}
"""


def deployment(
    replicas: object = 1, selector: str = "web", port: object = 80, protocol: str = "TCP"
) -> str:
    """A Deployment, right unless told otherwise."""
    return DEPLOYMENT.format(replicas=replicas, selector=selector, port=port, protocol=protocol)


def read(tmp_path: Path, text: str) -> list[manifests.Document]:
    """Read one file against an empty store and two nodes."""
    file = tmp_path / "app.yaml"
    file.write_text(text)
    return manifests.read([file], SyncStore(tmp_path / "store"), ["node1", "node2"])


def pod(spec: str) -> str:
    """A Pod with the given flow-style spec members."""
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{{spec}}}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", ["app.yaml:", "bad YAML"]),
        ("- a", ["app.yaml document 1", "not a mapping"]),
        ("kind: Pod", ["apiVersion"]),
        ("apiVersion: v1\nkind: Pod", ["metadata"]),
        (GOOD.replace("name: a", "name: A_b", 1), ["document 1", "metadata.name"]),
        (GOOD + "---\n" + GOOD, ["document 2", "already given", "document 1"]),
        (GOOD + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\n", ["document 2", "spec"]),
        (pod("containers: []"), ["spec.containers", "at least one"]),
        (pod("containers: [{name: c}], nodeName: mars"), ["spec.nodeName", "mars", "node1"]),
        (deployment(port=70000), ["spec.template.spec.containers[0].ports[0]", "70000"]),
        (deployment(port="true"), ["containerPort", "True"]),
        (deployment(protocol="ICMP"), ["protocol", "ICMP", "UDP"]),
        (deployment(replicas=-1), ["spec.replicas", "-1"]),
        (deployment(replicas=100000), ["spec.replicas", "100000"]),
        (deployment(selector="other"), ["spec.selector.matchLabels", "app=other"]),
        ("", ["no manifest"]),
    ],
)
def test_a_bad_manifest_is_one_clear_line(tmp_path: Path, text: str, words: list[str]) -> None:
    """The message holds the place and the value, and no line break."""
    with pytest.raises(AxonemeError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_list_object_is_its_items(tmp_path: Path) -> None:
    """``kind: List`` as kubectl prints it."""
    text = (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n"
    )
    assert [d.key.name for d in read(tmp_path, text)] == ["a", "b"]


def test_an_unknown_kind_is_kept_and_marked(tmp_path: Path) -> None:
    """The command warns about it, nothing more."""
    text = "apiVersion: example.org/v1\nkind: Rocket\nmetadata: {name: r}\n"
    assert [d.known for d in read(tmp_path, text)] == [False]


def test_what_a_server_owns_is_dropped_from_the_text(tmp_path: Path) -> None:
    """Output of ``kubectl get -o yaml`` can be applied."""
    text = GOOD.replace("{name: a}", "{name: a, uid: u, resourceVersion: '1'}", 1)
    assert set(read(tmp_path, text)[0].body["metadata"]) == {"name", "namespace"}


def test_folders_are_read_whole_and_in_order(tmp_path: Path) -> None:
    """All manifest suffixes, subfolders too, nothing else."""
    folder = tmp_path / "all"
    (folder / "sub").mkdir(parents=True)
    for name, file in (("a", "1.yaml"), ("b", "2.json"), ("c", "sub/3.yml"), ("d", "notes.txt")):
        (folder / file).write_text(GOOD.replace("name: a", f"name: {name}", 1))
    found = manifests.read([folder], SyncStore(tmp_path / "store"), ["node1"])
    assert [d.key.name for d in found] == ["a", "b", "c"]
