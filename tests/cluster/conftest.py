"""A lab for tests: the real command line, in a lab of the tests' own that is always removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAME = f"axot{os.getpid() % 100000}"
"""Of this test run alone: two runs on one machine do not meet."""
CLI = (sys.executable, "-m", "axoneme.core.cli")


class Cluster:
    """Commands of one lab; every method runs the command line as a user would."""

    def __init__(self) -> None:
        self.root = Path("/run/axoneme") / NAME
        self.environment = {**os.environ, "AXONEME_LAB": NAME, "NO_COLOR": "1"}

    def run(
        self, *arguments: str, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run ``axoneme ARGUMENTS``."""
        done = subprocess.run(
            [*CLI, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``axoneme ARGUMENTS`` without waiting; its output is a pipe."""
        return subprocess.Popen(
            [*CLI, *arguments], env=self.environment, stdout=subprocess.PIPE, text=True, **options
        )

    def up(self, nodes: int = 2, **config: str) -> None:
        """``lab up``; underscores in keys stand for dashes."""
        settings = [f"--config={key.replace('_', '-')}={value}" for key, value in config.items()]
        self.run("lab", "up", "--nodes", str(nodes), *settings)

    def down(self) -> None:
        """``lab down``."""
        self.run("lab", "down")

    def apply(self, text: str | Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``lab apply`` of a text or a file."""
        return self._with_file("apply", text, check)

    def delete(self, text: str | Path) -> subprocess.CompletedProcess[str]:
        """``lab delete`` of a text or a file."""
        return self._with_file("delete", text, True)

    def _with_file(
        self, verb: str, text: str | Path, check: bool
    ) -> subprocess.CompletedProcess[str]:
        if isinstance(text, Path):
            return self.run("lab", verb, "-f", str(text), check=check)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            return self.run("lab", verb, "-f", file.name, check=check)

    def pods(self) -> list[dict[str, Any]]:
        """``lab pods -o json``."""
        rows: list[dict[str, Any]] = json.loads(self.run("lab", "pods", "-o", "json").stdout)
        return rows

    def pod(self, prefix: str) -> str:
        """The first pod whose ``NS/NAME`` begins so."""
        names = sorted(f"{p['namespace']}/{p['name']}" for p in self.pods())
        return next(name for name in names if name.startswith(prefix))

    def addresses(self, name: str) -> dict[int, str]:
        """Addresses of a pod by family."""
        pod = next(p for p in self.pods() if f"{p['namespace']}/{p['name']}" == name)
        return {6 if ":" in a else 4: a for a in pod["addresses"]}

    def probe(self, source: str, target: str, *options: str) -> dict[str, Any]:
        """``lab probe -o json``."""
        done = self.run("lab", "probe", source, target, *options, "-o", "json")
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def matrix(self, *options: str) -> list[dict[str, Any]]:
        """``lab matrix -o json``."""
        rows: list[dict[str, Any]] = json.loads(
            self.run("lab", "matrix", *options, "-o", "json").stdout
        )
        return rows

    def agent(self, node: str, action: str, *options: str, check: bool = True) -> Any:
        """``lab agent``."""
        return self.run("lab", "agent", node, action, *options, check=check)

    def call(self, node: str, *arguments: str) -> Any:
        """An agent command's JSON."""
        socket = self.root / "nodes" / node / "axoneme.sock"
        done = self.run(*arguments, "--socket", str(socket), "-o", "json")
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """No lab yet; whatever a test starts is removed."""
    made = Cluster()
    made.down()
    try:
        yield made
    finally:
        made.down()


Lost = Callable[[], list[str]]


@pytest.fixture
def leftovers() -> Iterator[Lost]:
    """What is on the machine now and was not before the test: namespaces, links, pins, files."""
    before = inventory()
    yield lambda: sorted(inventory() - before)


def inventory() -> set[str]:
    """Everything that a lab could leave behind."""
    links = subprocess.run(
        ["ip", "-br", "link"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = {f"link {line.split()[0]}" for line in links if line.strip()}
    found |= {f"file {path}" for root in ("/run/netns", "/run/axoneme") for path in tree(root)}
    found |= {f"pin {path}" for path in tree("/sys/fs/bpf")}
    found |= {f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob("**/axo*")}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(b"/axoneme/" + NAME.encode() in part for part in command):
                found.add(f"process {entry.name} {command[:6]!r}")
    # Other tests on this machine name what they make axot-…; ours has no dash there.
    return {line for line in found if "axot-" not in line}


def tree(root: str) -> set[str]:
    """All paths below a folder."""
    return {str(path) for path in Path(root).rglob("*")}
