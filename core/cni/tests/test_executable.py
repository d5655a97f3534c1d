"""The CNI executable as a runtime runs it, with a real API server and a scripted manager."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.api.server import ApiRouter, ApiServer
from axoneme.core.cni import shim
from axoneme.core.cni.queue import DeleteQueue
from axoneme.core.cni.server import CniServer
from axoneme.core.endpoints.request import EndpointRequest
from axoneme.core.errors import AxonemeError, ExhaustedError, NotFoundError
from axoneme.core.model.endpoint import Endpoint, EndpointState


@pytest.fixture(
    params=[
        "python",
        pytest.param(
            "c", marks=pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: cc")
        ),
    ],
    autouse=True,
)
def executable(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of the two executables: same words, same codes."""
    found: Path | None = shim.SCRIPT
    if request.param == "c":
        found = shim.compiled(tmp_path_factory.getbasetemp() / "cni")
    assert found is not None
    monkeypatch.setattr(sys.modules[__name__], "EXECUTABLE", found)


EXECUTABLE = shim.SCRIPT


class Manager:
    """Answers as told and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.error: AxonemeError | None = None
        self.wrong = ""

    async def add(self, request: EndpointRequest) -> Endpoint:
        self.calls.append(("add", request))
        if self.error:
            raise self.error
        return Endpoint(
            id=7,
            attachment_id=request.attachment_id,
            namespace=request.namespace,
            pod=request.pod,
            ipv4=IPv4Address("10.244.1.9"),
            ipv6=IPv6Address("fd00:10:244:1::9"),
            ifname="axo0123456789",
            ifindex=5,
            container_ifname=request.ifname,
            netns=request.netns,
            mac="02:00:00:00:00:01",
            host_mac="02:00:00:00:00:02",
            mtu=1450,
            state=EndpointState.READY,
        )

    async def remove(self, attachment_id: str) -> None:
        self.calls.append(("remove", attachment_id))

    async def check(self, attachment_id: str) -> None:
        if self.wrong:
            raise AxonemeError(self.wrong)

    async def gc(self, valid: Collection[str]) -> None:
        self.calls.append(("gc", tuple(valid)))


class Agent:
    """An API server with the CNI methods, in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "axoneme.sock"
        self.manager = Manager()
        self.why_not = ""
        self.cni = CniServer(
            self.manager,
            lambda: (ip_address("10.244.1.1"), ip_address("fd00:10:244:1::1")),
            lambda: self.why_not,
            folder,
        )
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self.started.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        router = ApiRouter()
        self.cni.register(router)
        self.server = ApiServer(router, self.socket)
        self.loop.run_until_complete(self.server.start())
        self.started.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self.server.stop())
        self.loop.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """A running agent."""
    found = Agent(tmp_path)
    yield found
    found.stop()


def call(
    socket: Path, command: str, config: dict[str, Any] | str | None = None, **environment: str
) -> tuple[int, Any]:
    """Exit code and decoded output of one call."""
    if not isinstance(config, str):
        config = json.dumps(
            {
                "cniVersion": "1.1.0",
                "name": "axoneme",
                "type": "axoneme-cni",
                "socket-path": str(socket),
                **(config or {}),
            },
            indent=2,
        )
    env = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "abc",
        "CNI_NETNS": "/run/netns/abc",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=u1",
        **environment,
    }
    done = subprocess.run(
        [str(EXECUTABLE)],
        input=config.encode(),
        env={k: v for k, v in env.items() if v},
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.stderr == b""
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None


def test_add_answers_the_result(agent: Agent) -> None:
    """ADD gives interfaces, both addresses with their gateways, and routes."""
    code, answer = call(agent.socket, "ADD")
    assert code == 0
    assert answer["cniVersion"] == "1.1.0"
    assert answer["interfaces"][1] == {
        "name": "eth0",
        "mac": "02:00:00:00:00:01",
        "mtu": 1450,
        "sandbox": "/run/netns/abc",
    }
    assert answer["ips"] == [
        {"address": "10.244.1.9/32", "interface": 1, "gateway": "10.244.1.1"},
        {"address": "fd00:10:244:1::9/128", "interface": 1, "gateway": "fd00:10:244:1::1"},
    ]
    assert {"dst": "0.0.0.0/0", "gw": "10.244.1.1"} in answer["routes"]
    assert {"dst": "::/0", "gw": "fd00:10:244:1::1"} in answer["routes"]
    request = agent.manager.calls[0][1]
    assert (request.namespace, request.pod, request.uid) == ("shop", "web-1", "u1")


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_older_versions_get_their_shape(agent: Agent, version: str) -> None:
    """Before 1.0.0 an address says its family; before 1.1.0 no interface has an MTU."""
    _, answer = call(agent.socket, "ADD", {"cniVersion": version})
    assert answer["cniVersion"] == version
    assert "mtu" not in answer["interfaces"][1]
    assert [x.get("version") for x in answer["ips"]] == (
        ["4", "6"] if version.startswith("0.") else [None, None]
    )


def test_add_behind_another_plugin_keeps_its_result(agent: Agent) -> None:
    """What plugins before us answered stays in front, and our interface index counts it."""
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "other0"}],
        "ips": [{"address": "192.0.2.1/24", "interface": 0}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }
    _, answer = call(agent.socket, "ADD", {"prevResult": previous})
    assert answer["interfaces"][0] == {"name": "other0"}
    assert answer["ips"][0] == {"address": "192.0.2.1/24", "interface": 0}
    assert answer["ips"][1]["interface"] == 2
    assert answer["dns"] == {"nameservers": ["192.0.2.53"]}


def test_version_needs_no_agent(tmp_path: Path) -> None:
    """VERSION answers by itself."""
    code, answer = call(tmp_path / "none", "VERSION", {"cniVersion": "1.0.0"})
    assert code == 0
    assert answer == {
        "cniVersion": "1.0.0",
        "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


def test_version_of_a_version_that_is_none(tmp_path: Path) -> None:
    """Whatever stands in its place, the answer is JSON."""
    for odd in (b'"1.0\\{"', b"5", b'"\xff"', b"null", b'""'):
        done = subprocess.run(
            [str(EXECUTABLE)],
            input=b'{"cniVersion": ' + odd + b"}",
            env={"CNI_COMMAND": "VERSION"},
            capture_output=True,
            check=False,
        )
        assert json.loads(done.stdout)["cniVersion"]


@pytest.mark.parametrize(
    ("command", "number"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)]
)
def test_without_agent(tmp_path: Path, command: str, number: int) -> None:
    """Nobody on the socket: try again later, or for STATUS not available."""
    code, answer = call(tmp_path / "axoneme.sock", command)
    assert (code, answer["code"], answer["cniVersion"]) == (1, number, "1.1.0")


@pytest.mark.parametrize(
    ("command", "number"), [("ADD", 11), ("DEL", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)]
)
def test_agent_that_is_not_ready(agent: Agent, command: str, number: int) -> None:
    """While the agent starts the runtime is told to come again, and nothing is touched."""
    agent.why_not = "programs are being loaded"
    code, answer = call(agent.socket, command, {"prevResult": {}})
    assert (code, answer["code"]) == (1, number)
    assert "programs are being loaded" in answer["msg"]
    assert agent.manager.calls == []


def test_del_without_agent_is_queued_and_replayed(tmp_path: Path) -> None:
    """A DEL while the agent is away succeeds, twice, and is carried out at the next start."""
    for _ in range(2):
        assert call(tmp_path / "axoneme.sock", "DEL") == (0, None)
    assert [x.attachment_id for x in DeleteQueue(tmp_path).pending()] == ["abc:eth0"]
    agent = Agent(tmp_path)
    try:
        count = asyncio.run_coroutine_threadsafe(agent.cni.replay(), agent.loop).result(10)
    finally:
        agent.stop()
    assert count == 1
    assert agent.manager.calls == [("remove", "abc:eth0")]
    assert DeleteQueue(tmp_path).pending() == []


def test_delete_queue_is_bounded(tmp_path: Path) -> None:
    """The 257th deletion is refused with "try again later", not written."""
    folder = tmp_path / "cni-delete-queue"
    folder.mkdir()
    for number in range(256):
        (folder / f"c{number}-eth0.json").write_text("{}")
    code, answer = call(tmp_path / "axoneme.sock", "DEL")
    assert (code, answer["code"]) == (1, 11)
    assert len(list(folder.iterdir())) == 256


def test_unreadable_queue_file_is_dropped(tmp_path: Path) -> None:
    """A file that is not what the executable writes stops nothing."""
    folder = tmp_path / "cni-delete-queue"
    folder.mkdir()
    (folder / "a-eth0.json").write_text("{")
    (folder / "b-eth0.json").write_text('{"attachment_id": "b:eth0"}')
    assert [x.attachment_id for x in DeleteQueue(tmp_path).pending()] == ["b:eth0"]


def test_del_check_and_gc_reach_the_manager(agent: Agent) -> None:
    """DEL without a namespace, CHECK of something healthy, GC with what may stay."""
    assert call(agent.socket, "DEL", CNI_NETNS="") == (0, None)
    assert call(agent.socket, "CHECK", {"prevResult": {}}) == (0, None)
    valid = [{"containerID": "abc", "ifname": "eth0"}]
    assert call(agent.socket, "GC", {"cni.dev/valid-attachments": valid}) == (0, None)
    assert call(agent.socket, "STATUS") == (0, None)
    assert agent.manager.calls == [("remove", "abc:eth0"), ("gc", ("abc:eth0",))]


def test_gc_without_a_list_removes_nothing(agent: Agent) -> None:
    """A GC that does not say what may stay is an error, never "everything goes"."""
    code, answer = call(agent.socket, "GC")
    assert (code, answer["code"]) == (1, 7)
    assert agent.manager.calls == []


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (ExhaustedError("pod CIDR 10.244.1.0/24 has no free address"), 11),
        (NotFoundError("network namespace /run/netns/abc is gone"), 3),
        (AxonemeError("it broke"), 100),
    ],
)
def test_errors_of_the_manager_have_codes(agent: Agent, error: AxonemeError, number: int) -> None:
    """Each kind of failure has the code by which a runtime decides what to do."""
    agent.manager.error = error
    code, answer = call(agent.socket, "ADD")
    assert (code, answer["code"], answer["msg"]) == (1, number, error.message)


@pytest.mark.parametrize(
    ("config", "environment", "number"),
    [
        ({"cniVersion": "2.0.0"}, {}, 1),
        ({"cniVersion": 5}, {}, 1),
        ({}, {"CNI_CONTAINERID": ""}, 4),
        ({}, {"CNI_CONTAINERID": "../x"}, 4),
        ({}, {"CNI_IFNAME": "a-name-that-is-too-long"}, 4),
        ({}, {"CNI_NETNS": ""}, 4),
        ({}, {"CNI_COMMAND": "FROB"}, 4),
        ({}, {"CNI_ARGS": "nonsense"}, 4),
        ({"mtu": "big"}, {}, 7),
        ({"prevResult": []}, {}, 7),
        ({"socket-path": "relative"}, {}, 7),
    ],
)
def test_bad_requests(
    agent: Agent, config: dict[str, Any], environment: dict[str, str], number: int
) -> None:
    """Each bad input is refused with the specification's code, before anything is touched."""
    environment = {"CNI_COMMAND": "ADD", **environment}
    code, answer = call(agent.socket, environment.pop("CNI_COMMAND"), config, **environment)
    assert (code, answer["code"]) == (1, number)
    assert agent.manager.calls == []


@pytest.mark.parametrize("text", ["nonsense", "{", "[]", '{"a": "\xff"}'])
def test_config_that_is_not_json(agent: Agent, text: str) -> None:
    """Garbage on standard input is code 6 (or no agent on the default socket), never a trace."""
    config = text + f' {{"socket-path": "{agent.socket}"}}'
    code, answer = call(agent.socket, "ADD", config)
    assert (code, answer["code"]) == (1, 6)


def test_config_cannot_reach_into_the_request(agent: Agent) -> None:
    """A configuration that tries to close its quotes stays text: another method is not called."""
    config = f'{{"socket-path": "{agent.socket}"}}' + '"}},"method":"cni.gc","params":{"x":"'
    code, answer = call(agent.socket, "ADD", config)
    assert (code, answer["code"]) == (1, 6)
    assert agent.manager.calls == []


def test_escaped_text_arrives_unchanged(agent: Agent) -> None:
    """Backslashes, quotes and non-ASCII letters in the configuration survive the journey."""
    args = 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;NOTE=a"b\\c\u00e9'
    code, _ = call(agent.socket, "ADD", {"comment": 'say "no\\yes"\n\u00e9\u4e2d'}, CNI_ARGS=args)
    assert code == 0


def test_check_says_what_is_wrong(agent: Agent) -> None:
    """CHECK of an interface that lost something fails with our own code and the reason."""
    agent.manager.wrong = "endpoint shop/web-1: eth0 is down"
    code, answer = call(agent.socket, "CHECK", {"prevResult": {}})
    assert (code, answer["code"], answer["msg"]) == (1, 101, "endpoint shop/web-1: eth0 is down")
    code, answer = call(agent.socket, "CHECK")
    assert (code, answer["code"]) == (1, 7)


def test_hint_becomes_details(agent: Agent) -> None:
    """What to do about an error reaches the runtime's log, quotes and letters unharmed."""
    agent.manager.error = AxonemeError('say "no" \u00e9', hint="ask \\ again")
    _, answer = call(agent.socket, "ADD")
    assert (answer["msg"], answer["details"]) == ('say "no" \u00e9', "ask \\ again")


@pytest.mark.parametrize(
    "config", ['{"a": [1, {"socket-path": "/nowhere"}], "b": "}", ', '{ "x" : "\\"" , "y":[ ] , ']
)
def test_socket_path_behind_other_things(agent: Agent, config: str) -> None:
    """The key of the configuration itself counts, not one of something inside it."""
    config += f'"socket-path" : "{agent.socket}", "cniVersion": "1.0.0", "name": "axoneme"}}'
    code, answer = call(agent.socket, "ADD", config)
    assert (code, answer["cniVersion"]) == (0, "1.0.0")


def test_agent_that_hangs_up(tmp_path: Path) -> None:
    """A connection that ends without an answer: try again later."""
    path = tmp_path / "axoneme.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def hang_up() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        code, answer = call(path, "ADD")
        thread.join()
    assert (code, answer["code"]) == (1, 11)


@pytest.mark.parametrize("text", ['"', "{", '{"a"', '{"a":', '{"a":1', "[" * 200, '{"a":"\\'])
def test_version_of_half_a_configuration(tmp_path: Path, text: str) -> None:
    """A configuration that ends too early, or goes too deep, is code 6."""
    code, answer = call(tmp_path / "none", "VERSION", text)
    assert (code, answer["code"]) == (1, 6)


def test_executable_is_quick_and_small() -> None:
    """It imports nothing but what a socket needs: the start is what a pod waits for."""
    code = (
        "import sys, runpy; before = set(sys.modules)\n"
        f"runpy.run_path({str(shim.SCRIPT)!r}, run_name='cni')\n"
        "print(sorted(set(sys.modules) - before))"
    )
    out = subprocess.run(
        ["/usr/bin/python3", "-ISE", "-c", code], capture_output=True, check=True, text=True
    )
    assert "json" not in out.stdout
    assert "_socket" in out.stdout
    assert os.access(shim.SCRIPT, os.X_OK)
