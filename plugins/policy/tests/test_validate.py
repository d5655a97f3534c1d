"""``axoneme policy validate``: mistakes with file, line, object and field, without an agent."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from axoneme.core.cli import main

GOOD = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: good, namespace: shop}
spec:
  endpointSelector: {}
  ingress:
  - fromEndpoints: [{}]
"""
BAD = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: bad
  namespace: shop
spec:
  endpointSelector: {}
  ingress:
  - fromEndpoint: [{}]
  - toPorts:
    - ports:
      - port: "80"
      - port: "99999"
  egress:
  - toCIDR: [10.0.0.0/40]
"""
NOT_BUILT_IN = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: later}
spec:
  endpointSelector: {}
  egress:
  - toGroups: [{aws: {}}]
"""


@pytest.fixture
def validate(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command on some texts, each a file; ``(exit code, report)``."""

    def run(folder: Path, texts: dict[str, str], *more: str) -> tuple[int, dict[str, Any]]:
        for name, text in texts.items():
            (folder / name).write_text(text)
        code = main.run(["policy", "validate", "-f", str(folder), "-o", "json", *more])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_good_files_pass(tmp_path: Path, validate: Any) -> None:
    """Exit code 0, and the count of what was read."""
    code, report = validate(tmp_path, {"a.yaml": GOOD})
    assert code == 0
    assert (report["files"], report["policies"], report["rules"]) == (1, 1, 1)


def test_every_mistake_is_named_with_its_place(tmp_path: Path, validate: Any) -> None:
    """One run shows the mistakes of all rule items, with file, line, column, object and field."""
    code, report = validate(tmp_path, {"a.yaml": GOOD, "b.yaml": f"{GOOD}---\n{BAD}"})
    assert code == 1
    found = [(Path(f["file"]).name, f["line"], f["column"], f["field"]) for f in report["findings"]]
    assert found == [
        ("b.yaml", 3, 12, "metadata.name"),  # a.yaml has it too
        ("b.yaml", 17, 5, "spec.ingress[0].fromEndpoint"),
        ("b.yaml", 21, 9, "spec.ingress[1].toPorts[0].ports[1].port"),
        ("b.yaml", 23, 14, "spec.egress[0].toCIDR[0]"),
    ]
    assert report["findings"][1]["object"] == "CiliumNetworkPolicy shop/bad"
    assert "given already in" in report["findings"][0]["message"]


def test_what_is_only_not_enforced_is_a_warning(tmp_path: Path, validate: Any) -> None:
    """Which ``--strict`` makes a failure."""
    code, report = validate(tmp_path, {"a.yaml": NOT_BUILT_IN})
    assert (code, report["errors"], report["warnings"]) == (0, 0, 1)
    assert report["findings"][0]["line"] == 7
    assert validate(tmp_path, {}, "--strict")[0] == 1


def test_other_kinds_are_skipped_with_a_note(tmp_path: Path, validate: Any) -> None:
    """Also kinds that nobody knows, and YAML that is no manifest."""
    other = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nreplicas: 3\n---\n"
    stranger = "apiVersion: example.org/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n"
    code, report = validate(tmp_path, {"a.yaml": other + stranger})
    assert (code, report["policies"], len(report["skipped"])) == (0, 0, 3)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: [\n", 2, "bad YAML"),
        ("- 1\n", 1, "not a mapping"),
        ("kind: NetworkPolicy\nmetadata: {name: a}\n", 1, "is missing"),
        (GOOD + "  ingress:\n  - {}\n", 8, "stands twice"),
        ("a: &a [*a]\nkind: 1\n", 2, "must be a kind"),
    ],
)
def test_files_that_are_no_manifests_fail(
    tmp_path: Path, validate: Any, text: str, line: int, word: str
) -> None:
    """With the line, as far as there is one."""
    code, report = validate(tmp_path, {"a.yaml": text})
    assert code == 1
    assert report["findings"][0]["line"] == line
    assert word in report["findings"][0]["message"]


def test_bytes_that_are_no_text_fail(tmp_path: Path, validate: Any) -> None:
    """With the line on which they are."""
    (tmp_path / "a.yaml").write_bytes(b"a: b\nc: \xff\n")
    code, report = validate(tmp_path, {})
    assert (code, report["findings"][0]["line"]) == (1, 2)


def test_standard_input_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the name of a dash."""
    stdin = SimpleNamespace(buffer=io.BytesIO(BAD.encode()))
    monkeypatch.setattr("axoneme.plugins.policy.validate.sys.stdin", stdin)
    assert main.run(["policy", "validate", "-f", "-"]) == 1
    assert "standard input:9:5: error: CiliumNetworkPolicy shop/bad" in capsys.readouterr().out


def test_text_drives_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in a manifest come out as question marks (CVE-2025-48056)."""
    (tmp_path / "a.yaml").write_text(BAD.replace("fromEndpoint", '"\\e[2Jx"'))
    assert main.run(["policy", "validate", "-f", str(tmp_path)]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_a_missing_file_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names it."""
    assert main.run(["policy", "validate", "-f", "/nowhere"]) == 1
    assert "/nowhere: no such file or folder" in capsys.readouterr().err
