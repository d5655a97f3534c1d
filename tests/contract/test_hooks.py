"""Every hook is documented, called by the core and used by somebody."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

import pytest
from tree import ROOT, functions, sources

from axoneme.core.plugin_loading import hook_names
from axoneme.hooks.specs import MODULES


def _specs(module: ModuleType) -> dict[str, object]:
    return {n: f for n, f in vars(module).items() if n.startswith("axoneme_") and callable(f)}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_specs_are_few_and_documented(module: ModuleType) -> None:
    """A module has at most ten specs; each says in full sentences what it is for and when."""
    specs = _specs(module)
    assert specs and len(specs) <= 10
    assert module.__doc__
    for name, function in specs.items():
        doc = inspect.getdoc(function) or ""
        assert doc.split("\n")[0].rstrip().endswith("."), name
        parts = name.split("_")
        assert len(parts) >= 3, f"{name}: axoneme_<verb>_<noun>"


def test_every_hook_is_called_by_the_core() -> None:
    """A hook that nothing calls is a promise that is not kept."""
    text = "\n".join(path.read_text() for path in sources("core"))
    assert [name for name in hook_names() if name not in text] == []


def test_every_hook_is_implemented_somewhere() -> None:
    """Each hook is used by a built-in plugin or by the stranger's plugin of tests/downstream."""
    used = set()
    for path in [*sources("plugins"), *(ROOT / "tests" / "downstream").rglob("*.py")]:
        used |= {f.name for f in functions(path) if f.name.startswith("axoneme_")}
    unused = [name for name in hook_names() if name not in used]
    assert unused == [], "no plugin uses them"


def test_the_readme_lists_every_hook() -> None:
    """hooks/README.md names every hook and no other."""
    text = (ROOT / "hooks" / "README.md").read_text()
    assert set(re.findall(r"axoneme_[a-z0-9_]+", text)) == set(hook_names())


def test_hooks_import_only_pluggy_at_run_time() -> None:
    """The public API can be imported without anything of ours behind it."""
    import subprocess
    import sys

    code = (
        "import sys, axoneme.hooks.specs; print(sorted(m for m in sys.modules "
        "if m.startswith('axoneme.core') or m in ('attr', 'attrs', 'click', 'yaml')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
