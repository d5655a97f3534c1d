"""The examples of the README run."""

from __future__ import annotations

import os
import re
import sys
import types
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: CAP_BPF")
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_example(number: int, tmp_path: Path, bpf_root: Path, veth: tuple[int, int]) -> None:
    """What the page says is what happens."""
    names = {"folder": tmp_path, "bpf_root": bpf_root, "ifindex": veth[0], "__name__": "readme"}
    source = "\n" * README.read_text()[: README.read_text().index(BLOCKS[number])].count("\n")
    module = types.ModuleType("readme")
    sys.modules["readme"] = module  # models resolve their annotations in their module
    vars(module).update(names)
    try:
        exec(compile(source + BLOCKS[number], str(README), "exec"), vars(module))
    finally:
        del sys.modules["readme"]


def test_every_module_is_in_the_table() -> None:
    """A module that the page does not name is unknown to its readers."""
    text = README.read_text()
    modules = {p.stem for p in README.parent.glob("*.py")} - {"__init__"}
    internal = {"syscalls", "kinds"}
    assert {m for m in modules - internal if f"`{m}`" not in text} == set()
