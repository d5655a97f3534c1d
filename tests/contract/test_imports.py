"""The import contracts of pyproject.toml hold."""

from __future__ import annotations

import subprocess
import sys

from tree import ROOT


def test_import_contracts_are_kept() -> None:
    """Layers of the core, independent plugins, one adapter per outside world."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout
