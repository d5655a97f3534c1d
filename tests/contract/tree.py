"""What contract tests look at: the tree of the repository, its packages and plugins."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"hooks": "axoneme.hooks", "core": "axoneme.core", "plugins": "axoneme.plugins",
           "bpf": "axoneme.bpf", "deploy": "axoneme.deploy"}  # fmt: skip


def setup_cfg() -> configparser.ConfigParser:
    """The packaging."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def words(text: str) -> list[str]:
    """The non-empty lines of a value."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def packages() -> dict[str, Path]:
    """Every package of the tree by its installed name; tests are not packages."""
    found = {}
    for folder, name in FOLDERS.items():
        for init in sorted((ROOT / folder).rglob("__init__.py")):
            parts = init.parent.relative_to(ROOT / folder).parts
            if "tests" not in parts:
                found[".".join([name, *parts])] = init.parent
    return found


def sources(*folders: str) -> Iterator[Path]:
    """Python files below folders of the root, without tests."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "tests" not in path.relative_to(ROOT).parts[:-1]:
                yield path


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function in a file, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def entry_points() -> dict[str, str]:
    """Built-in plugins of setup.cfg: name and module."""
    lines = words(setup_cfg()["options.entry_points"].get("axoneme.plugins", ""))
    pairs = (line.split("=", 1) for line in lines)
    return {name.strip(): module.strip() for name, module in pairs}
