"""An agent and an operator in one network namespace, with pods made through the local API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from axoneme.core.api.client import call
from axoneme.core.datapath.maps import BpfMap
from axoneme.core.errors import ApiError, AxonemeError
from axoneme.core.netlink.namespaces import create_netns, delete_netns

pytestmark = [pytest.mark.root, pytest.mark.serial]

AXONEME = str(Path(sys.executable).with_name("axoneme"))


class Node:
    """One node: a namespace, a store, an operator and an agent that can be killed."""

    def __init__(self, folder: Path, bpf_root: Path) -> None:
        self.folder = folder
        self.tag = f"axot-{uuid4().hex[:6]}"
        self.socket = folder / "state" / "axoneme.sock"
        self.netns: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.config = {
            "node-name": "n1",
            "state-dir": str(folder / "state"),
            "lib-dir": os.environ.get("AXONEME_TEST_LIB", "/var/tmp/axot-lib"),
            "store-path": str(folder / "store"),
            "bpf-root": str(bpf_root),
            "agent-health-port": 0,
            "leader-election-retry-period": "0.2s",
            "identity-change-grace-period": "0.2s",
            "cluster-pool-ipv4-cidr": "10.244.0.0/29",
            "cluster-pool-ipv4-mask-size": 29,
            "cluster-pool-ipv6-cidr": "fd00:10:244::/64",
            "cluster-pool-ipv6-mask-size": 64,
        }
        self.make_netns("")
        self._underlay()

    def make_netns(self, suffix: str) -> str:
        name = self.tag + suffix
        create_netns(name)
        self.netns.append(name)
        return name

    def _underlay(self) -> None:
        peer = self.make_netns("x")
        for line in (
            f"ip link add eth0 netns {self.tag} type veth peer name eth0 netns {peer}",
            f"ip -n {self.tag} addr add 172.31.7.2/24 dev eth0",
            f"ip -n {self.tag} addr add fd31:7::2/64 dev eth0 nodad",
            f"ip -n {self.tag} link set eth0 up",
            f"ip -n {peer} addr add 172.31.7.1/24 dev eth0",
            f"ip -n {peer} link set eth0 up",
            f"ip -n {self.tag} route add default via 172.31.7.1",
        ):
            subprocess.run(line.split(), check=True)

    def start(self, role: str) -> subprocess.Popen[bytes]:
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.config))
        command = ["nsenter", f"--net=/run/netns/{self.tag}", AXONEME, role, "--config", str(path)]
        with (self.folder / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def start_agent(self) -> subprocess.Popen[bytes]:
        process = self.start("agent")
        for _ in range(600):
            with suppress(AxonemeError):
                call(self.socket, "cni.status", {}, 5)
                return process
            assert process.poll() is None, self.log("agent")[-4000:]
            time.sleep(0.1)
        raise AssertionError(self.log("agent")[-4000:])

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text()

    def put_pod(self, name: str, labels: dict[str, str] | None = None) -> None:
        path = self.folder / "store" / "Pod" / f"default.{name}.yaml"
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"u-{name}",
                "labels": labels or {"app": "test"},
            },
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
        }
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
        self._put(self.folder / "store" / "Namespace" / "default.yaml", space)
        self._put(path, body)

    def _put(self, path: Path, body: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = path.with_name(f".{path.name}")
        hidden.write_text(yaml.safe_dump(body))
        hidden.rename(path)

    def params(self, name: str, container: str = "", netns: str = "") -> dict[str, Any]:
        return {
            "env": {
                "CNI_CONTAINERID": container or f"c-{name}",
                "CNI_IFNAME": "eth0",
                "CNI_NETNS": netns or f"/run/netns/{self.tag}-{name}",
                "CNI_ARGS": f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}",
            },
            "config": json.dumps({"cniVersion": "1.0.0", "name": "axoneme", "type": "axoneme-cni"}),
        }

    def add(self, name: str) -> list[str]:
        """A pod's addresses."""
        self.make_netns(f"-{name}")
        self.put_pod(name)
        result = call(self.socket, "cni.add", self.params(name), 30)
        return [ip["address"].split("/")[0] for ip in result["ips"]]

    def endpoints(self) -> dict[str, dict[str, Any]]:
        return {e["pod"]: e for e in call(self.socket, "endpoint.list", {}, 10)}

    def ping(self, pod: str, address: str) -> bool:
        command = ["ip", "netns", "exec", f"{self.tag}-{pod}", "ping", "-c1", "-W1", address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def links(self) -> set[str]:
        command = ["ip", "-n", self.tag, "-br", "link"]
        out = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        return {line.split("@")[0] for line in out.splitlines() if line.startswith("axo")}

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        # The DNS proxy outlives its agent on purpose.
        subprocess.run(["pkill", "-9", "-f", f"fqdn.supervisor .*{self.folder}/"], check=False)
        for name in reversed(self.netns):
            with suppress(AxonemeError):
                delete_netns(name)


@pytest.fixture
def node(tmp_path: Path, axoneme_bpffs: Path) -> Iterator[Node]:
    found = Node(tmp_path, axoneme_bpffs)
    try:
        found.start("operator")
        yield found
    finally:
        found.close()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    for _ in range(int(seconds * 20)):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("never happened")


def test_pods_survive_kill_and_restart(node: Node) -> None:
    """Two pods talk in both families, also while the agent is dead and after it is back."""
    agent = node.start_agent()
    node.add("a")
    addresses = node.add("b")
    assert all(node.ping("a", address) for address in addresses)
    before = node.endpoints()
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    assert all(node.ping("a", address) for address in addresses)
    agent = node.start_agent()
    after = node.endpoints()
    for pod in ("a", "b"):
        for field in ("id", "identity", "ipv4", "ipv6", "interface", "state"):
            assert after[pod][field] == before[pod][field]
    assert all(node.ping("a", address) for address in addresses)
    agent.terminate()
    assert agent.wait(10) == 0
    assert all(node.ping("a", address) for address in addresses)


def test_repeats_duplicates_and_removals(node: Node) -> None:
    """The same ADD again is the same endpoint; another container of the pod is refused; DEL is
    idempotent and takes everything along."""
    node.start_agent()
    links = node.links()
    node.add("a")
    first = call(node.socket, "cni.add", node.params("a"), 30)
    assert first["ips"] == call(node.socket, "cni.add", node.params("a"), 30)["ips"]
    other = node.make_netns("-other")
    with pytest.raises(ApiError, match="has endpoint"):
        call(node.socket, "cni.add", node.params("a", "c-2", f"/run/netns/{other}"), 30)
    assert len(node.endpoints()) == 1
    for _ in range(2):
        call(node.socket, "cni.del", node.params("a"), 30)
    assert node.endpoints() == {}
    assert node.links() == links
    rows = call(node.socket, "map.get", {"name": "axo_ep_by_if"}, 10)["entries"]
    assert rows == []
    eventually(lambda: not list((node.folder / "store" / "CiliumEndpoint").glob("*.yaml")))
    assert not list((node.folder / "state" / "endpoints").glob("*.json"))


def test_failed_adds_leave_nothing(node: Node) -> None:
    """No namespace, no address left, no pod object: a clear error, and not a trace of it."""
    node.start_agent()
    links = node.links()
    node.put_pod("ghost")
    with pytest.raises(ApiError, match="network namespace"):
        call(node.socket, "cni.add", node.params("ghost"), 30)
    assert node.links() == links
    for number in range(5):
        node.add(f"p{number}")
    with pytest.raises(ApiError, match=r"no address left.*10\.244\.0\.0/29"):
        node.add("p5")
    assert len(node.endpoints()) == 5
    assert len(node.links() - links) == 5
    call(node.socket, "cni.del", node.params("p0"), 30)
    result = call(node.socket, "cni.add", node.params("p5"), 30)
    assert result["ips"]


def test_second_agent_refuses(node: Node) -> None:
    """Two agents for one node: the second says who runs and exits with 1."""
    node.start_agent()
    second = node.start("agent")
    assert second.wait(20) == 1
    assert "another agent runs on this node" in node.log("agent")
    call(node.socket, "cni.status", {}, 5)


def test_labels_change_the_identity(node: Node) -> None:
    """A label of a running pod gives it another identity; it keeps talking meanwhile."""
    node.start_agent()
    node.add("a")
    addresses = node.add("b")
    before = node.endpoints()["a"]["identity"]
    node.put_pod("a", {"app": "other"})
    eventually(lambda: node.endpoints()["a"]["identity"] != before)
    assert "k8s:app=other" in node.endpoints()["a"]["labels"]
    assert all(node.ping("a", address) for address in addresses)
    assert node.endpoints()["b"]["identity"] == before


def test_half_made_link_is_swept(node: Node) -> None:
    """What a killed ADD left is gone after the start; a stranger's link stays."""
    agent = node.start_agent()
    agent.kill()
    agent.wait()
    for name, alias in (("axo0000000001", "axoneme-endpoint:x:eth0"), ("axotmine", "mine")):
        subprocess.run(["ip", "-n", node.tag, "link", "add", name, "type", "veth"], check=True)
        subprocess.run(["ip", "-n", node.tag, "link", "set", name, "alias", alias], check=True)
    node.start_agent()
    assert "axo0000000001" not in node.links()
    assert "axotmine" in node.links()


def test_lost_namespace_is_noticed(node: Node) -> None:
    """An interface that vanishes without a DEL is reported; a late DEL still works."""
    node.start_agent()
    node.add("a")
    delete_netns(f"{node.tag}-a")
    eventually(lambda: node.endpoints()["a"]["state"] == "not-ready", 30)
    assert "is gone" in node.endpoints()["a"]["message"]
    call(node.socket, "cni.del", node.params("a"), 30)
    assert node.endpoints() == {}


def test_no_family_is_refused(node: Node) -> None:
    """A configuration without any address family stops the start with a clear error."""
    node.config |= {"enable-ipv4": False, "enable-ipv6": False}
    agent = node.start("agent")
    assert agent.wait(20) == 1
    assert "error: key" in node.log("agent")
    assert "enable-ipv" in node.log("agent")


def test_bad_objects_and_clashing_nodes_are_in_the_status(node: Node) -> None:
    """A broken manifest and a node with our pod CIDR are named; pods go on being made."""
    node.start_agent()
    folder = node.folder / "store" / "CiliumNode"
    (folder / "thief.yaml").write_text(
        "apiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: thief}\n"
        "spec: {ipam: {podCIDRs: [10.244.0.0/29]}}\n"
    )
    (folder.parent / "Pod" / "default.broken.yaml").write_text("apiVersion: v1\nkind: [")

    def problems() -> dict[str, str]:
        found = call(node.socket, "status.get", {}, 10)["components"]
        return {c["name"]: c["message"] for c in found if c["health"] != "Ok"}

    eventually(lambda: {"node thief", "Pod default/broken"} <= problems().keys())
    assert "10.244.0.0/29 overlaps" in problems()["node thief"]
    assert node.add("a")


def test_core_alone_delivers(node: Node) -> None:
    """With every plugin off, pods with addresses of the runtime's own choice talk on one node."""
    names = ("ipam-cluster-pool", "masquerade", "native-routing", "policy", "responder")
    others = ("source-check", "tunnel")
    node.config = {k: v for k, v in node.config.items() if not k.startswith("cluster-pool")}
    node.config["plugins"] = " ".join(f"-{name}" for name in (*names, *others))
    node.start_agent()
    for number, name in enumerate(("a", "b")):
        node.make_netns(f"-{name}")
        node.put_pod(name)
        params = node.params(name)
        ips = [f"10.9.9.{number + 1}/32", f"fd09::{number + 1}/128"]
        params["config"] = json.dumps(
            {"cniVersion": "1.0.0", "name": "x", "type": "y", "runtimeConfig": {"ips": ips}}
        )
        call(node.socket, "cni.add", params, 30)
    assert node.ping("a", "10.9.9.2")
    assert node.ping("b", "fd09::1")


def test_what_cilium_left_is_named_and_not_touched(node: Node) -> None:
    """Its links, addresses, routes, filters and pins are the same after two lives of an agent."""

    def ip(*words: str) -> str:
        command = ["ip", "-n", node.tag, *words]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout

    root = Path(str(node.config["bpf-root"]))
    pin = root / "tc" / "globals" / "cilium_ipcache_v2"
    with BpfMap.create("hash", 4, 4, 8, name="cilium_ipcache") as theirs:
        theirs.update(b"\1\0\0\0", b"\2\0\0\0")
        theirs.pin(pin)
        number = theirs.info.id
    for line in (
        "link add cilium_host type veth peer name cilium_net",
        "link add lxc0a1b2c3d4e5f type veth peer name tmp0",
        "link add cilium_vxlan type vxlan external dstport 8472",
        "addr add 10.0.0.1/32 dev cilium_host",
        "link set cilium_net up",
        "link set cilium_host up",
        "link set lxc0a1b2c3d4e5f up",
        "route add 10.9.0.0/24 dev cilium_host proto 33",
        "rule add pref 109 fwmark 0x200/0xf00 lookup 2004",
    ):
        ip(*line.split())
    tc = ["tc", "-n", node.tag]
    subprocess.run([*tc, "qdisc", "add", "dev", "lxc0a1b2c3d4e5f", "clsact"], check=True)
    words = [
        "filter",
        "add",
        "dev",
        "lxc0a1b2c3d4e5f",
        "ingress",
        "pref",
        "1",
        "bpf",
        "da",
        "bytecode",
    ]
    subprocess.run([*tc, *words, "1,6 0 0 0"], check=True)

    def picture() -> list[object]:
        links = json.loads(ip("-j", "-d", "link"))
        kept = ("ifname", "ifindex", "address", "mtu", "ifalias", "linkinfo", "master", "flags")
        names = ("cilium_host", "cilium_net", "cilium_vxlan", "lxc0a1b2c3d4e5f")
        filters = subprocess.run(
            [*tc, "-j", "filter", "show", "dev", "lxc0a1b2c3d4e5f", "ingress"],
            capture_output=True,
            check=True,
        )
        with BpfMap.open(pin) as present:
            held = (present.info.id, present.lookup(b"\1\0\0\0"))
        return [
            [{k: x.get(k) for k in kept} for x in links if x["ifname"] in names],
            ip("-4", "addr", "show", "dev", "cilium_host"),
            ip("route", "show", "dev", "cilium_host"),
            ip("rule", "show", "pref", "109"),
            filters.stdout,
            held,
        ]

    before = picture()
    assert before[-1] == (number, b"\2\0\0\0")
    # Its port is taken in this namespace: that is for whoever migrates to arrange.
    node.config |= {"routing-mode": "native", "auto-direct-node-routes": True}
    node.config |= {"ipv4-native-routing-cidr": "10.244.0.0/16"}
    node.config |= {"ipv6-native-routing-cidr": "fd00:10:244::/48"}
    agent = node.start_agent()
    node.add("a")
    lines = call(node.socket, "status.get", {}, 10)["lines"]
    said = next(line["text"] for line in lines if line["label"] == "Cilium")
    assert all(word in said for word in ("cilium_host", "lxc0a1b2c3d4e5f", str(pin)))
    assert "Cilium is on this node and is left alone" in node.log("agent")
    call(node.socket, "cni.del", node.params("a"), 30)
    agent.terminate()
    assert agent.wait(10) == 0
    agent = node.start_agent()
    agent.kill()
    agent.wait()
    assert picture() == before
