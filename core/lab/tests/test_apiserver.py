"""What becomes of a test's API server when the test is gone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from axoneme.core.errors import LabError
from axoneme.core.lab.apiserver import ApiServer, executables

PROGRAMS = ("etcd", "kube-apiserver", "sh")
STARTER = """
import sys, time
from pathlib import Path
from axoneme.core.lab.apiserver import ApiServer
server = ApiServer(Path(sys.argv[1]), Path(sys.argv[2]))
server.prepare()
server.start()
print("ready", flush=True)
time.sleep(600)
"""


def running(word: str) -> list[str]:
    """Names of processes that have a word in their arguments, guards left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        name = Path(arguments[0]).name
        if any(word in a for a in arguments) and name in PROGRAMS and "guard" not in arguments:
            found.append(name)
    return sorted(found)


def wait_gone(word: str) -> None:
    """Until no such process is there."""
    for _ in range(100):
        if not running(word):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {running(word)}")


@pytest.mark.needs("kubernetes")
def test_no_server_outlives_a_starter_that_is_killed(tmp_path: Path) -> None:
    """As when a test run is ended with SIGKILL."""
    binaries = executables()
    assert binaries is not None
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), str(binaries)], stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    with starter:
        assert starter.stdout.readline() == b"ready\n"
        assert running(str(tmp_path)) == ["etcd", "kube-apiserver"]
        starter.kill()
    wait_gone(str(tmp_path))


def test_a_process_ends_with_its_server(tmp_path: Path) -> None:
    """Asked to, or at once; one that does not listen is not waited for."""
    server = ApiServer(tmp_path, Path("/bin"))
    asked = tmp_path / "asked"
    script = f'trap "echo > {asked}; exit" TERM; echo > {tmp_path}/up; while :; do sleep 0.05; done'

    def start(name: str) -> None:
        server.spawn("sh", "-c", script)
        server._processes[name] = server._processes.pop("sh")
        while not (tmp_path / "up").exists():
            time.sleep(0.01)
        (tmp_path / "up").unlink()
        assert "sh" in running(str(tmp_path))

    start("etcd")
    server.kill("etcd")
    assert not asked.exists()
    assert "sh" not in running(str(tmp_path))
    start("etcd")
    server.stop()
    assert asked.exists()
    assert "sh" not in running(str(tmp_path))


def test_a_process_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    """Not waited for until patience is over."""
    server = ApiServer(tmp_path, Path("/bin"))
    server.prepare()
    server.spawn("sh", "-c", "echo no such flag; exit 3")
    server._processes["sh"].wait()
    assert server._processes["sh"].returncode == 3
    with pytest.raises(LabError, match="sh ended: no such flag"):
        server.wait()
    server.kill("sh")
