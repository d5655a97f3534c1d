"""The wheel holds what the tree holds."""

from __future__ import annotations

import fnmatch

import pytest
from tree import FOLDERS, ROOT, entry_points, packages, setup_cfg, sources, words

DATA = {".c", ".h", ".tsv", ".typed"}


def test_packages_of_setup_cfg_are_those_of_the_tree() -> None:
    """A package missing in ``packages`` works in editable mode and is absent from the wheel."""
    listed = words(setup_cfg()["options"]["packages"])
    assert sorted(listed) == sorted(packages())
    assert len(listed) == len(set(listed))


def test_every_file_that_is_not_python_is_package_data() -> None:
    """C, headers, READMEs and executables of a package match a pattern, and are in a package."""
    patterns = [p.strip() for p in setup_cfg()["options.package_data"]["*"].split(",")]
    folders = sorted(packages().values(), key=lambda path: -len(path.parts))
    for root in FOLDERS:
        for path in (ROOT / root).rglob("*"):
            if not path.is_file() or "tests" in path.parts or path.suffix not in DATA:
                continue
            owner = next(folder for folder in folders if folder in path.parents)
            name = str(path.relative_to(owner))
            matched = any(fnmatch.fnmatch(name, p.replace("**/", "*")) for p in patterns)
            assert matched, f"{path.relative_to(ROOT)} is not package data"


def test_every_plugin_folder_has_an_entry_point_and_the_reverse() -> None:
    """A folder without entry point is dead, an entry point without folder breaks the start."""
    folders = {path.parent.name for path in (ROOT / "plugins").glob("*/plugin.py")}
    targets = {module.split(".")[2] for module in entry_points().values()}
    assert folders == targets
    for name, module in entry_points().items():
        assert module == f"axoneme.plugins.{module.split('.')[2]}.plugin"
        assert module.split(".")[2].replace("_", "-") == name, "folder and name say the same"


@pytest.mark.parametrize("root", sorted(FOLDERS))
def test_packages_are_imported_by_their_installed_name(root: str) -> None:
    """``import core`` from the root makes a second copy of every module."""
    for path in sources(*FOLDERS):
        for line in path.read_text().splitlines():
            stripped = line.strip()
            assert not stripped.startswith((f"import {root}.", f"from {root}.", f"from {root} ")), (
                f"{path.relative_to(ROOT)}: {stripped}"
            )
            assert stripped != f"import {root}", path


def test_init_files_hold_little() -> None:
    """``__init__.py`` is a docstring and at most the names that the package offers."""
    for folder in packages().values():
        lines = (folder / "__init__.py").read_text().splitlines()
        assert lines and lines[0].startswith('"""'), folder
        assert len(lines) <= 25, folder


def test_sizes_are_printed_and_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """Python modules and C files have at most 400 lines; the largest are shown."""
    sizes = []
    for root in FOLDERS:
        for path in (ROOT / root).rglob("*"):
            if path.suffix in (".py", ".c", ".h") and "tests" not in path.parts:
                if "kernel" in path.parts:
                    continue  # headers that stand in for the kernel's, as they come
                sizes.append((len(path.read_text().splitlines()), path.relative_to(ROOT)))
    sizes.sort(reverse=True)
    with capsys.disabled():
        total = sum(size for size, _ in sizes)
        print(f"\n{len(sizes)} files, {total} lines; the largest:")
        for size, path in sizes[:10]:
            print(f"{size:5}  {path}")
    assert [str(path) for size, path in sizes if size > 400] == []
