"""The command line, in process and as a process, against an API served from real tables."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from axoneme.core import options as core_options
from axoneme.core.api import core_metrics, methods
from axoneme.core.api.server import ApiRouter, ApiServer
from axoneme.core.cli.main import run
from axoneme.core.cli.nouns import CORE_NOUNS, Root, noun
from axoneme.core.cli.output import Output, width_of
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.datapath.maps import BpfMap
from axoneme.core.endpoints.objects import PolicyStatus
from axoneme.core.metrics import MetricRegistry
from axoneme.core.model.endpoint import Endpoint, EndpointState
from axoneme.core.model.identity import Identity
from axoneme.core.model.ipcache import IpcacheEntry
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.node import Node
from axoneme.core.plugins import PluginManager
from axoneme.core.services import Services
from axoneme.core.state import TableRegistry
from axoneme.core.status import StatusReport
from axoneme.core.store import FolderStore
from axoneme.hooks import API_VERSION, hookimpl

LABELS = LabelSet.parse(["k8s:app=web", "k8s:evil=\x1b[31mred"])


def endpoint(number: int, **changes: Any) -> Endpoint:
    """An endpoint row."""
    values: dict[str, Any] = {
        "id": number,
        "attachment_id": f"c{number}:eth0",
        "namespace": "default",
        "pod": f"web-{number}",
        "ipv4": IPv4Address(f"10.244.0.{number}"),
        "ipv6": None,
        "ifname": "axo0123456789",
        "ifindex": 7,
        "container_ifname": "eth0",
        "netns": "/run/netns/x",
        "mac": "02:00:00:00:00:01",
        "host_mac": "02:00:00:00:00:02",
        "mtu": 1450,
        "labels": LABELS,
        "identity": 300,
        "state": EndpointState.READY,
    }
    return Endpoint(**(values | changes))


class Enforcement:
    """Ingress enforced on identity 300."""

    def status_of(self, identity: int) -> dict[str, Any]:
        """Ingress only."""
        return {"ingress": {"enforcing": identity == 300}, "egress": {"enforcing": False}}

    def audits(self, endpoint: int) -> bool:
        return False


def reporter(name: str, *, fails: bool) -> Any:
    """A plugin that reports a status line, or fails to."""

    @hookimpl
    def axoneme_report_status(report: StatusReport, agent: Any) -> None:
        if fails:
            raise KeyError("oops")
        report.line("Routing", "Network: Test")

    return SimpleNamespace(
        NAME=name,
        API_VERSION=API_VERSION,
        SUMMARY="reports",
        axoneme_report_status=axoneme_report_status,
    )


def fake_agent() -> Any:
    """What the methods need of an agent, with real tables, plugins and configuration."""
    registry = OptionRegistry()
    core_options.register(registry)
    config = Config.load(registry)
    plugins = PluginManager()
    plugins.add(reporter("good", fails=False))
    plugins.add(reporter("bad", fails=True))
    plugins.enable(config)
    tables = TableRegistry()
    tables.create("endpoints", Endpoint, key=lambda r: r.id).upsert(endpoint(5))
    identities = tables.create("identities", Identity, key=lambda r: r.id)
    identities.upsert(Identity(300, LABELS))
    identities.upsert(Identity(2, LabelSet.parse(["reserved:world"]), "reserved"))
    tables.create("ipcache", IpcacheEntry, key=lambda r: r.prefix).upsert(
        IpcacheEntry(IPv4Network("10.244.0.5/32"), 300, IPv4Address("172.18.0.2"), "endpoint")
    )
    tables.create("nodes", Node, key=lambda r: r.name).upsert(
        Node("n1", ipv4=IPv4Address("172.18.0.2"), local=True)
    )
    services = Services()
    services.provide(PolicyStatus, Enforcement())
    agent = SimpleNamespace(
        config=config,
        plugins=plugins,
        tables=tables,
        services=services,
        node_name="n1",
        tasks=SimpleNamespace(states={}, failing=list),
        metrics=MetricRegistry(),
        datapath=SimpleNamespace(maps={}),
        reconcilers={},
        network=SimpleNamespace(errors={}),
        store=FolderStore(Path("/nonexistent")),
        events=SimpleNamespace(losses=dict, reader=None),
        why_not_ready=lambda: "",
        report=lambda status: None,
    )
    core_metrics.register(agent.metrics, agent)
    return agent


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An API on a socket that the CLI finds through AXONEME_SOCKET."""
    path = tmp_path / "a.sock"
    agent = fake_agent()
    loop = asyncio.new_event_loop()
    router = ApiRouter()
    methods.register(router, agent)
    server = ApiServer(router, path)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(5)
    monkeypatch.setenv("AXONEME_SOCKET", str(path))
    yield agent
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AXONEME_NODE", "AXONEME_SOCKET", "AXONEME_OUTPUT", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def test_endpoint_list_has_the_documented_shape(
    agent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two heading lines, policy enforcement by direction, one label a line, no escape sequence."""
    assert run(["endpoint", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    headings = "ENDPOINT|POLICY (ingress)|POLICY (egress)|IDENTITY|LABELS (source:key[=value])"
    assert re.split("  +", lines[0]) == [*headings.split("|"), "IPv6", "IPv4", "STATUS"]
    assert lines[1].split() == ["ENFORCEMENT", "ENFORCEMENT"]
    row = "5 Enabled Disabled 300 k8s:app=web 10.244.0.5 ready"
    assert " ".join(lines[2].split()) == row
    assert lines[3].strip() == "k8s:evil=?[31mred"
    assert lines[3].index("k8s") == lines[2].index("k8s") == lines[0].index("LABELS")


@pytest.mark.parametrize(
    ("command", "key", "value"),
    [
        (["endpoint", "list"], "id", 5),
        (["endpoint", "get", "default/web-5"], "name", "default/web-5"),
        (["endpoint", "get", "10.244.0.5"], "id", 5),
        (["endpoint", "get", "c5"], "id", 5),
        (["identity", "get", "300"], "refcount", 1),
        (["identity", "list", "--endpoints"], "id", 300),
        (["ip", "list", "10.244.0.5"], "host", "172.18.0.2"),
        (["node", "list"], "name", "n1"),
        (["state"], "name", "endpoints"),
        (["state", "endpoints"], "pod", "web-5"),
        (["config", "mtu"], "value", "0"),
        (["status"], "health", "Warning"),
        (["plugin", "list"], "name", "bad"),
        (["plugin", "show", "good"], "state", "on"),
        (["metrics", "list", "endpoint_state"], "name", "cilium_endpoint_state"),
    ],
)
def test_json_and_yaml_hold_the_same_data(
    agent: Any, capsys: pytest.CaptureFixture[str], command: list[str], key: str, value: Any
) -> None:
    """Every reading command prints parsable JSON and YAML with the same content."""
    assert run([*command, "-o", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert run([*command, "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == data
    row = data[0] if isinstance(data, list) else data
    assert row[key] == value
    assert run(command) == 0
    assert capsys.readouterr().out.strip()


def test_status_has_labels_in_order_and_shows_failed_plugins(
    agent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels stand in order; a plugin that cannot report is named and harms no other line."""
    assert run(["status", "--brief"]) == 0
    assert capsys.readouterr().out.startswith("Warning: plugin bad: axoneme_report_status: KeyErr")
    assert run(["status", "--verbose"]) == 0
    out = capsys.readouterr().out
    labels = [line.split(":")[0] for line in out.split("\n\n")[0].splitlines()]
    order = ["Store", "Axoneme", "Routing", "Controller Status", "Global Identity Range"]
    assert [label for label in labels if label in order] == order
    assert "Global Identity Range:   min 256, max 65535" in out


def test_status_exits_with_one_when_something_failed(
    agent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed plugin is a failure of the node, seen in the exit code."""
    agent.plugins.policy = "disable"
    agent.plugins.fail("good", "its C does not compile")
    assert run(["status", "--brief"]) == 1
    assert "Failure: plugin good: its C does not compile" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["endpoint", "get", "77"], 1, "error: no endpoint '77' on this node (axoneme endpoint"),
        (["state", "nothing"], 1, "error: no table 'nothing' (tables: endpoints"),
        (["map", "list"], 1, "error: the packet path is not loaded yet"),
        (["ip", "list", "x"], 1, "error: 'x' is not an IP address or prefix"),
        (["config", "mtuu"], 1, "did you mean mtu?"),
        (["endpont", "list"], 2, "error: axoneme: no command 'endpont', did you mean endpoint?"),
        (["endpoint", "lsit"], 2, "error: axoneme endpoint: no command 'lsit', did you mean list?"),
        (["endpoint", "list", "--bad"], 2, "--bad"),
        (["config", "--set", "x"], 2, "KEY=VALUE"),
        (["endpoint", "list", "--node", "nope"], 1, "the lab has no node 'nope'"),
    ],
)
def test_errors_are_one_line_with_the_right_exit_code(
    agent: Any, capsys: pytest.CaptureFixture[str], command: list[str], code: int, message: str
) -> None:
    """Failures exit with 1, wrong usage with 2; stderr has one line that says what to do."""
    assert run(command) == code
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err
    assert captured.err.count("\n") == 1


def test_without_an_agent_the_hint_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No agent is a failure with a hint, not a traceback."""
    assert run(["--socket", str(tmp_path / "none"), "endpoint", "list"]) == 1
    assert "no agent answers" in capsys.readouterr().err


def test_config_and_plugins_work_without_an_agent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Given a configuration, values and plugin states are computed here."""
    (tmp_path / "mtu").write_text("1400")
    assert run(["config", "--config-dir", str(tmp_path), "--changed"]) == 0
    captured = capsys.readouterr().out.splitlines()
    assert captured[1].split() == ["*", "mtu", "1400", str(tmp_path / "mtu"), "agent"]
    assert run(["plugin", "list", "--set", "mtu=1400", "-o", "json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
    assert run(["config", "--describe", "routing-mode"]) == 0
    assert "(tunnel native)" in capsys.readouterr().out


def _commands(command: Any, path: list[str]) -> Iterator[tuple[list[str], Any]]:
    import click

    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _commands(command.commands[name], [*path, name])


def test_every_help_is_narrow_and_each_verb_has_an_example(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Help texts fit 80 columns; commands of the core show how to call them."""
    import click

    from axoneme.core.cli.main import cli

    root = Root("axoneme")
    for name in CORE_NOUNS:
        command = root.core_noun(name)
        if command is None:
            continue
        for path, found in _commands(command, [name]):
            assert run([*path, "--help"]) == 0
            text = capsys.readouterr().out
            wide = [line for line in text.splitlines() if len(line) >= 80]
            assert not wide, f"{' '.join(path)}: {wide}"
            leaf = not isinstance(found, click.Group)
            if leaf and name not in ("lab", "monitor"):
                assert f"axoneme {' '.join(path)}" in text.split("Options:")[0].split("\n", 1)[1], (
                    f"{' '.join(path)} has no example"
                )
    assert isinstance(cli, Root)


def test_a_broken_plugin_does_not_break_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plugin that cannot be imported, or whose hook raises, costs a warning line each."""
    from axoneme.core import plugin_loading
    from axoneme.core.cli.main import cli
    from axoneme.core.plugin_loading import Candidate

    def explode(root: Any) -> None:
        raise RuntimeError("no\x1bway")

    def add(root: Any) -> None:
        @noun(root, "bpf").command("greetings")
        def greetings() -> None:
            """Say hello."""
            print("hello from a plugin")

    def found(hook: str) -> list[Candidate]:
        return [
            Candidate("gone", error="ModuleNotFoundError: x"),
            Candidate("bad", SimpleNamespace(axoneme_register_commands=explode)),
            Candidate("good", SimpleNamespace(axoneme_register_commands=add)),
        ]

    monkeypatch.setattr(plugin_loading, "find_implementing", found)
    monkeypatch.setattr(cli, "plugins_loaded", False)
    try:
        assert run(["bpf", "greetings"]) == 0
    finally:
        noun(cli, "bpf").commands.pop("greetings", None)
        cli.plugins_loaded = False
    captured = capsys.readouterr()
    assert captured.out == "hello from a plugin\n"
    assert "plugin gone adds no commands: ModuleNotFoundError" in captured.err
    assert "plugin bad adds no commands: RuntimeError: no?way" in captured.err


def test_help_starts_fast() -> None:
    """``axoneme version`` as a process takes well under the time that a person notices."""
    best = 10.0
    for _ in range(3):
        start = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "axoneme.core.cli", "version"], check=True, capture_output=True
        )
        best = min(best, time.monotonic() - start)
    assert best < 0.6, f"{best:.3f} s"


def test_the_core_commands_import_nothing_heavy() -> None:
    """Help of the core's commands loads neither rich nor structlog, asyncio, pyroute2 or bcc."""
    code = (
        "import sys; from axoneme.core.cli.main import run; run(['endpoint', 'list', '--help']);"
        "print(sorted({'rich','structlog','pyroute2','bcc','prometheus_client','asyncio','yaml'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(("columns", "word"), [("80", "ENFORCED"), ("200", "LABELS")])
def test_endpoint_list_fits_the_terminal(
    agent: Any, columns: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the pod's name, which scripts that read the documented columns do not get."""
    from axoneme.core.cli.endpoint import _table
    from axoneme.core.cli.options import find_agent

    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("COLUMNS", columns)
    _table(find_agent().call("endpoint.list"), Output(stream=stream))
    lines = re.sub(r"\x1b\[\d*m", "", stream.getvalue()).splitlines()
    assert max(width_of(line) for line in lines) <= int(columns)
    assert word in lines[0] and "POD" in lines[0]


def test_tables_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal long cells wrap into their column and no line is wider than the screen."""
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    output = Output(stream=stream)
    text = "k8s:app=web, k8s:team=payments, " * 4
    output.table(["ID", "LABELS", "STATUS"], [(1, text, "ready"), (2, "日本" * 40, "x")])
    lines = stream.getvalue().splitlines()
    assert max(width_of(line) for line in lines) <= 60 and len(lines) > 4
    words = "".join(line for line in lines[1:]).replace(" ", "")
    assert words.count("payments") == 4


def test_colour_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets plain text, a terminal gets colour unless NO_COLOR is set."""

    def shown(terminal: bool) -> str:
        stream = io.StringIO()
        stream.isatty = lambda: terminal  # type: ignore[method-assign]
        Output(stream=stream).table(["STATUS"], [("ready",)])
        return stream.getvalue()

    assert "\x1b" not in shown(False) and "\x1b" in shown(True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(True)


@pytest.mark.root
def test_a_map_is_dumped_and_listed(agent: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A real kernel map appears with its sizes and its entries."""
    with BpfMap.create("hash", 4, 4, 16, name="axot_dump") as bpf_map:
        bpf_map.update(b"\x01\x00\x00\x00", b"\x02\x00\x00\x00")
        agent.datapath.maps["axot_dump"] = bpf_map
        assert run(["map", "list", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["max-entries"] == 16
        assert run(["map", "get", "axot_dump", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["entries"] == [
            {"key": "01000000", "value": "02000000"}
        ]
        assert run(["map", "get", "nope"]) == 1
        agent.datapath.maps.clear()


def test_nodes_are_found_where_the_lab_puts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """``--node`` looks for the socket at the place that the lab's own paths say."""
    from axoneme.core.cli import options
    from axoneme.core.lab.paths import LabPaths

    for name in ("", "axotest"):
        monkeypatch.setenv("AXONEME_LAB", name)
        paths = LabPaths.current()
        monkeypatch.setattr(options, "lab_nodes", lambda: ["node1"])
        assert options.find_agent("node1").socket == paths.node("node1") / "axoneme.sock"
