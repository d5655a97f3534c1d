"""Every installed plugin keeps to the form, and its README says what its code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from axoneme.core import options as core_options
from axoneme.core.config import OptionRegistry
from axoneme.core.plugin_loading import Candidate, find, hook_names
from axoneme.core.plugins import PluginManager

PLUGINS = [candidate for candidate in find() if not candidate.error]
SECTIONS = (
    "What",
    "Why",
    "Options",
    "Hooks",
    "Maps",
    "Packet path",
    "Compared with Cilium",
    "Limits",
)


def folder(candidate: Candidate) -> Path:
    """Where the plugin's files lie."""
    return Path(candidate.module.__file__).resolve().parent


def readme(candidate: Candidate) -> str:
    """Its README, in its folder or at the root of its distribution."""
    own = folder(candidate)
    # A stranger's README stands at the root of its distribution, above the package.
    places = [own] if candidate.origin == "axoneme" else [own, *own.parents[:2]]
    for place in places:
        if (place / "README.md").exists():
            return (place / "README.md").read_text()
    raise AssertionError(f"plugin {candidate.name} has no README.md")


def section(text: str, title: str) -> str:
    """The part of a README under a heading."""
    found = re.search(rf"^##+ {title}\b.*?$(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found[1] if found else ""


@pytest.fixture(scope="module")
def options() -> OptionRegistry:
    """The options of everybody."""
    manager = PluginManager()
    manager.discover()
    registry = OptionRegistry()
    core_options.register(registry)
    manager.register_options(registry)
    return registry


def test_every_installed_plugin_can_be_loaded() -> None:
    """No entry point is broken, misnamed or of another API version."""
    assert {c.name: c.error for c in find() if c.error} == {}


each = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda c: c.name)


@each
def test_the_readme_has_every_section(plugin: Candidate) -> None:
    """A reader finds the same headings in each plugin's README."""
    if plugin.origin != "axoneme":
        pytest.skip("a stranger's README is their own")
    text = readme(plugin)
    missing = [title for title in SECTIONS if not re.search(rf"^## {title}\b", text, re.M)]
    assert missing == []


@each
def test_the_readme_lists_the_options(plugin: Candidate, options: OptionRegistry) -> None:
    """Every key of the plugin is in the README, and the Options section names no other key."""
    text = readme(plugin)
    mine = {option.key for option in options if option.owner == plugin.name}
    assert sorted(key for key in mine if f"`{key}`" not in text) == []
    known = {option.key for option in options}
    listed = set(re.findall(r"^\| `([a-z0-9-]+)`", section(text, "Options"), re.M))
    assert sorted(listed - known) == [], "not a key of anybody"


@each
def test_the_readme_lists_the_hooks(plugin: Candidate) -> None:
    """Every hook that the plugin implements is named, and none that it does not."""
    names = {name for name in hook_names() if hasattr(plugin.module, name)}
    text = readme(plugin)
    assert sorted(name for name in names if f"`{name}`" not in text) == []
    listed = set(re.findall(r"`(axoneme_\w+)`", section(text, "Hooks")))
    assert sorted(listed - names) == [], "not implemented"


@each
def test_the_readme_lists_the_maps(plugin: Candidate) -> None:
    """Every shared map that the plugin's C declares is in the README."""
    declared = set()
    for path in [*folder(plugin).glob("*.h"), *folder(plugin).glob("*.c")]:
        for found in re.findall(r"\bBPF_\w+\s*\(([^;]*?)\)\s*;", path.read_text(), re.S):
            declared |= set(re.findall(r"(?<!struct )\b(axo_[a-z0-9_]+)\b(?=\s*,)", found))
    text = readme(plugin)
    assert sorted(name for name in declared if f"`{name}`" not in text) == []


@each
def test_plugin_py_only_wires(plugin: Candidate) -> None:
    """``plugin.py`` stays under 150 lines and says in one line what the plugin is."""
    path = Path(plugin.module.__file__)
    assert len(path.read_text().splitlines()) < 150
    assert plugin.summary and len(plugin.summary) <= 80 and "\n" not in plugin.summary
    if plugin.origin == "axoneme":
        assert path.name == "plugin.py" and (path.parent / "tests").is_dir()


@each
def test_options_have_help_and_a_sane_name(plugin: Candidate, options: OptionRegistry) -> None:
    """Keys are lower case with dashes, help is one short line."""
    for option in options:
        if option.owner == plugin.name:
            assert re.fullmatch(r"[a-z][a-z0-9-]*", option.key), option.key
            assert option.help and len(option.help) < 120, option.key
