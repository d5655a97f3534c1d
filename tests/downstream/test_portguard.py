"""A stranger's plugin, installed by pip, does all that its README says, and leaves no trace.

It stands for every plugin that we do not know: it uses only the public API, so a change that
breaks it breaks others too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

HERE = Path(__file__).parent
SOURCE = HERE / "axoneme-portguard"
LAB = f"axog{os.getpid() % 100000}"
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: guard}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 9000}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: guard}
spec:
  nodeName: node1
  containers: [{name: c, ports: [{containerPort: 7000}, {containerPort: 8080}]}]
"""

Axoneme = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, installed by pip into a folder of its own."""
    work = tmp_path_factory.mktemp("portguard")
    shutil.copytree(SOURCE, work / "source")  # pip leaves build products beside the source
    target = work / "site"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"),
            *("--disable-pip-version-check", "--target", str(target), str(work / "source")),
        ],
        check=True,
        capture_output=True,
    )
    return target


@pytest.fixture
def axoneme(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Axoneme]:
    """The command line with the plugin installed, on a lab of its own that goes afterwards."""
    monkeypatch.setenv("AXONEME_LAB", LAB)
    monkeypatch.setenv("PYTHONPATH", str(installed))

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "axoneme.core.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    run("lab", "down")
    try:
        yield run
    finally:
        run("lab", "down")


def socket(node: str = "node1") -> list[str]:
    """The option that names the lab's agent."""
    return ["--socket", f"/run/axoneme/{LAB}/nodes/{node}/axoneme.sock"]


def verdict(axoneme: Axoneme, port: int) -> tuple[str, str | None]:
    """What a connection from client to server ends with."""
    done = axoneme(
        "lab", "probe", "guard/client", "guard/server", "--port", str(port), "-o", "json"
    )
    result = json.loads(done.stdout)
    return result["verdict"], result["drop_reason"]


def maps(axoneme: Axoneme) -> set[str]:
    """Names of the pinned maps of node1."""
    folder = Path(f"/sys/fs/bpf/axo-{LAB}/node1")
    return {path.name for path in folder.rglob("axo_*")}


def wait_for(true: Callable[[], bool]) -> None:
    """Within some looks at the configuration's files."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def plugin_state(axoneme: Axoneme) -> dict[str, str]:
    """The plugin's line of ``axoneme plugin list``."""
    rows = json.loads(axoneme("plugin", "list", *socket(), "-o", "json").stdout)
    return next(row for row in rows if row["name"] == "portguard")


def test_on_it_works_and_off_it_leaves_no_trace(axoneme: Axoneme, tmp_path: Path) -> None:
    """One key: stage, command, metric and table are there; without it they are not."""
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(MANIFEST)
    axoneme("lab", "up", "--nodes", "1", "--config", "portguard-ports=7000/TCP 19/UDP")
    assert plugin_state(axoneme)["state"] == "on"
    assert plugin_state(axoneme)["version"] == "1.0.0"
    axoneme("lab", "apply", "-f", str(manifest))
    assert verdict(axoneme, 8080)[0] == "allowed"
    assert verdict(axoneme, 7000) == ("denied", "Policy denied by denylist")

    listed = json.loads(axoneme("portguard", "list", *socket(), "-o", "json").stdout)
    counts = {(row["port"], row["protocol"]): row["packets"] for row in listed}
    assert counts.keys() == {(7000, "TCP"), (19, "UDP")}
    assert counts[7000, "TCP"] > 0
    assert counts[19, "UDP"] == 0
    metrics = axoneme("metrics", "list", *socket(), "-o", "json").stdout
    assert "axoneme_portguard_dropped_packets_total" in metrics
    assert "7000" in axoneme("state", "portguard", *socket(), "-o", "json").stdout
    assert any("axo_portguard" in name for name in maps(axoneme))

    key = Path(f"/run/axoneme/{LAB}/nodes/node1/config/portguard-ports")
    key.write_text("8080/TCP")  # followed while the agent runs
    wait_for(lambda: verdict(axoneme, 8080)[0] == "denied")
    assert verdict(axoneme, 7000)[0] == "allowed"
    assert json.loads(axoneme("config", "drift", *socket(), "-o", "json").stdout) == []
    key.write_text("telnet")
    wait_for(lambda: "23/TCP" in axoneme("config", "drift", *socket(), "-o", "json").stdout)
    assert verdict(axoneme, 8080)[0] == "denied"

    axoneme("lab", "agent", "node1", "restart", "--config", "portguard-ports=")
    assert plugin_state(axoneme)["state"] == "off"
    assert verdict(axoneme, 7000)[0] == "allowed"
    assert not any("axo_portguard" in name for name in maps(axoneme))
    assert axoneme("state", "portguard", *socket(), check=False).returncode == 1
    assert "portguard" not in axoneme("metrics", "list", *socket(), "-o", "json").stdout


def test_a_bad_value_names_key_value_and_what_is_allowed(axoneme: Axoneme) -> None:
    """And nothing of the lab stays behind."""
    done = axoneme("lab", "up", "--nodes", "1", "--config", "portguard-ports=telnet", check=False)
    assert done.returncode == 1
    assert "portguard-ports" in done.stderr
    assert "telnet" in done.stderr
    assert "23/TCP" in done.stderr
    assert not Path(f"/run/axoneme/{LAB}").exists()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("count->packets, 1", "count->packts, 1"),
        ("if (!count)\n\t\treturn AXO_NEXT;", "if (!skb)\n\t\treturn AXO_NEXT;"),
    ],
    ids=["compiler", "verifier"],
)
def test_an_error_in_its_c_names_its_own_file_and_line(
    axoneme: Axoneme, installed: Path, good: str, bad: str
) -> None:
    """Both what does not compile and what the kernel's verifier refuses."""
    source = installed / "axoneme_portguard" / "portguard.bpf.c"
    text = source.read_text()
    assert good in text
    changed = text.replace(good, bad)
    line = changed[: changed.index(bad)].count("\n") + 1
    source.write_text(changed)
    try:
        done = axoneme("lab", "up", "--nodes", "1", "--config", "portguard-ports=1", check=False)
    finally:
        source.write_text(text)
    assert done.returncode == 1
    # The verifier refuses the first use of what was not checked, two lines further on.
    lines = [f"portguard.bpf.c:{number}: " for number in range(line, line + 3)]
    assert any(place in done.stderr for place in lines), done.stderr
    assert "portguard" in done.stderr
