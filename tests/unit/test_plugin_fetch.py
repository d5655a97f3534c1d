"""Third-party plugins of a cluster: the list is checked, hashes hold, all or nothing."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
import yaml

from axoneme.core.cluster.plugin import Source
from axoneme.core.errors import ConfigError
from axoneme.core.plugin_fetch import fetch, read_list

HASH = "sha256:" + "0" * 64


def wheel(folder: Path, name: str) -> tuple[Path, str]:
    """A wheel that pip takes (PEP 427), and its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "WORD = 'hello'\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def entry(name: str, key: str, pinned: str) -> dict[str, object]:
    """Of the chart's list."""
    return {"name": name, "hash": pinned, "wheel": {"configMap": "x", "key": key}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("[", "not YAML"),
        ("plugins: 3", "plugins: expected a list"),
        ("plugins: [7]", "plugins[0]: expected a map"),
        ("plugins: [{name: A_b}]", "plugins[0].name: 'A_b'"),
        ("plugins: [{name: a, pip: a==1}]", "plugin a: hash: ''"),
        (f"plugins: [{{name: a, hash: '{HASH}'}}]", "plugin a: one of pip and wheel"),
        (f"plugins: [{{name: a, hash: '{HASH}', pip: a}}]", "plugin a: pip: 'a' is not"),
        (f"plugins: [{{name: a, hash: '{HASH}', pip: '-r x==1'}}]", "plugin a: pip:"),
        (f"plugins: [{{name: a, hash: '{HASH}', pip: a==1, index: x}}]", "plugin a: index:"),
        (f"plugins: [{{name: a, hash: '{HASH}', wheel: {{key: ../a.whl}}}}]", "wheel.key"),
        (f"plugins: [{{name: a, hash: '{HASH}', wheel: 3}}]", "wheel.key"),
    ],
)
def test_a_bad_list_names_plugin_and_field(body: str, said: str) -> None:
    """Nothing that is no requirement reaches pip's command line."""
    with pytest.raises(ConfigError) as error:
        read_list(body)
    assert said in str(error.value)


def test_a_name_may_be_there_once() -> None:
    """Which of two is meant cannot be told."""
    both = {"plugins": [entry("a", "a.whl", HASH), entry("a", "b.whl", HASH)]}
    with pytest.raises(ConfigError, match="plugin a: named twice"):
        read_list(yaml.safe_dump(both))


def test_wheels_are_installed_all_or_none(tmp_path: Path) -> None:
    """A second one whose hash differs leaves the target empty; then both are there."""
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    one, first = wheel(wheels / "one", "axo_one")
    two, second = wheel(wheels / "two", "axo_two")
    bad = {"plugins": [entry("one", one.name, first), entry("two", two.name, HASH)]}
    with pytest.raises(ConfigError, match=r"plugin two: hash: .* has sha256:"):
        fetch(read_list(yaml.safe_dump(bad)), target, wheels)
    assert not target.exists()
    good = {"plugins": [entry("one", one.name, first), entry("two", two.name, second)]}
    fetch(read_list(yaml.safe_dump(good)), target, wheels)
    assert (target / "axo_one").is_dir() and (target / "axo_two-1.0.dist-info").is_dir()
    missing = {"plugins": [entry("three", "three.whl", HASH)]}
    with pytest.raises(ConfigError, match=r"the ConfigMap has no three\.whl"):
        fetch(read_list(yaml.safe_dump(missing)), target, wheels)


def test_sources_of_the_command_line(tmp_path: Path) -> None:
    """One of three, pinned; a wheel's hash is found out, and must be the given one."""
    path, pinned = wheel(tmp_path, "axo_one")
    made = Source("one", wheel=path, values={"one-word": "x"}).entry()
    assert made == {
        "name": "one",
        "hash": pinned,
        "wheel": {"configMap": "axoneme-plugin-one", "key": path.name},
        "values": {"one-word": "x"},
    }
    for source, said in (
        (Source("one"), "one of --pip"),
        (Source("one", requirement="a==1", wheel=path), "one of --pip"),
        (Source("one", requirement="a==1"), "hash"),
        (Source("one", wheel=path, hash=HASH), f"has {pinned}"),
    ):
        with pytest.raises(ConfigError) as error:
            source.entry()
        assert said in str(error.value)
