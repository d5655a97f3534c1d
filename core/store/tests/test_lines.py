"""Fields of manifests and the lines that they stand on."""

from __future__ import annotations

import pytest
import yaml

from axoneme.core.store import lines

TEXT = """\
# a comment
apiVersion: v1
metadata:
  name: a
  labels:
    app.kubernetes.io/name: web
    app: other
spec:
  ingress:
  - toPorts:
    - ports: [{port: "80"}, {port: "x y"}]
  - {}
---
---
kind: List
items:
- metadata: {name: b}
- metadata:
    name: c
"""


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        ("metadata.name", 4, 3),
        ("metadata.labels.app.kubernetes.io/name", 6, 5),
        ("metadata.labels.app", 7, 5),
        ("spec.ingress[0].toPorts[0].ports[1].port", 11, 30),
        ("spec.ingress[1]", 12, 5),
        ("spec.ingress[1].fromEndpoints[3]", 12, 5),
        ("spec.ingress (locked)", 8, 1),
        ("spec.egress", 8, 1),
        ("", 2, 1),
    ],
)
def test_a_path_leads_to_its_line(path: str, line: int, column: int) -> None:
    """A field is where its key is; a missing one where what should hold it is."""
    assert lines.documents(TEXT)[0].find(path) == lines.Place(line, column)


def test_items_of_a_list_are_documents() -> None:
    """Empty documents are none, and a List stands for its items, as for the loader."""
    found = lines.documents(TEXT)
    assert [d.find("metadata.name").line for d in found] == [4, 17, 19]


def test_keys_given_twice_are_found() -> None:
    """A loader silently takes the last one; this names it, at any depth."""
    text = "spec:\n  ingress: []\n  other: {a: 1, a: 2}\n  ingress: []\n"
    found = [(d.path, d.place.line) for d in lines.documents(text)[0].duplicates()]
    assert found == [("spec.other.a", 3), ("spec.ingress", 4)]


def test_the_last_of_two_equal_keys_is_pointed_at() -> None:
    """It is the one whose value a loader delivers."""
    document = lines.documents("spec: {a: 1}\nspec:\n  b: 1\n")[0]
    assert document.find("spec.b") == lines.Place(3, 3)


def test_bad_yaml_is_an_error() -> None:
    """As for the loader."""
    with pytest.raises(yaml.YAMLError):
        lines.documents("a: [")


def test_aliases_cost_nothing() -> None:
    """Nine levels that name the one below nine times are looked at once each."""
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    text = "\n".join(["l0: &l0 {a: 1, a: 2}", *levels])
    assert [d.path for d in lines.documents(text)[0].duplicates()] == ["l0.a"]
