"""One node: kubelet and containerd in namespaces of their own, as on a machine of their own.

A holder process keeps the mount namespace, in which the folders of a host (``/run``, the BPF file
system, ``/etc/cni``, kubelet's and containerd's) are the node's alone. All its processes are in one
cgroup v2, which is how they are found at the end whatever became of their parents.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.node.control import ADDRESS, ADDRESS6, WORLD, ControlPlane
from tests.node.shell import run, until

UNIFIED: Final = next(
    p for p in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
    if (p / "cgroup.controllers").exists()
)  # fmt: skip
PAUSE: Final = "axoneme.test/pause:1"

ENTER: Final = """\
set -e
mount --make-rprivate /
mount --make-rshared /
mkdir -p {base}/run {base}/etc-up {base}/etc-work {base}/opt {base}/lib {base}/log
mount --bind {base}/run /run
mkdir -p /run/netns /run/lock /run/cgroupv2
mount -t overlay overlay -o lowerdir=/etc,upperdir={base}/etc-up,workdir={base}/etc-work /etc
mkdir -p /etc/cni/net.d
mount --bind {base}/opt /opt
mkdir -p /opt/cni/bin
mkdir -p {base}/lib-up {base}/lib-work
mount -t overlay overlay \\
  -o lowerdir=/var/lib,upperdir={base}/lib-up,workdir={base}/lib-work /var/lib
mkdir -p /var/lib/kubelet /var/lib/containerd /var/lib/axoneme
mkdir -p {base}/kubelet {base}/containerd
mount --bind {base}/kubelet /var/lib/kubelet
mount --bind {base}/containerd /var/lib/containerd
mount --bind {base}/log /var/log
mount -t bpf bpf /sys/fs/bpf
mount --bind {cgroup} /run/cgroupv2
touch {base}/entered
exec sleep infinity
"""

CONTAINERD: Final = """\
version = 2
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.tracing"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"""

KUBELET: Final = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
evictionHard: {{}}
imageGCHighThresholdPercent: 100
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
makeIPTablesUtilChains: false
oomScoreAdj: 0
resolvConf: ""
nodeStatusUpdateFrequency: 4s
syncFrequency: 10s
maxPods: 110
"""


class Machine:
    """A node by its number, from 1."""

    def __init__(self, base: Path, control: ControlPlane, number: int) -> None:
        self.control, self.number = control, number
        self.name = f"node{number}"
        self.base = base / self.name
        self.netns = f"axn-{self.name}"
        self.address = f"172.19.0.{10 + number}"
        self.address6 = f"fd00:19::{10 + number}"
        self.cgroup = UNIFIED / self.netns
        self._holder = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    # Life

    def up(self, images: list[Path]) -> None:
        """Links, namespaces, containerd with the images, kubelet."""
        self.base.mkdir(parents=True)
        self._network()
        self.cgroup.mkdir(exist_ok=True)
        self._enter()
        self._containerd()
        for image in images:
            self.ctr("images", "import", image)
        self._kubelet()

    def _network(self) -> None:
        run("ip", "netns", "add", self.netns)
        port = f"port{self.number}"
        run("ip", "-n", WORLD, "link", "add", port, "type", "veth", "peer", "name", "eth0",
            "netns", self.netns)  # fmt: skip
        run("ip", "-n", WORLD, "link", "set", port, "master", "br0", "up")
        inside = ("ip", "-n", self.netns)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        run(*inside, "address", "add", f"{self.address6}/64", "dev", "eth0", "nodad")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", ADDRESS)
        run(*inside, "-6", "route", "add", "default", "via", ADDRESS6)

    def _enter(self) -> None:
        script = ENTER.format(base=self.base, cgroup=self.cgroup)
        join = f"echo $$ > {self.cgroup}/cgroup.procs\n"
        with (self.base / "enter.log").open("wb") as log:
            process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.netns}", "unshare", "--mount", "sh", "-c",
                 join + script],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._holder = process.pid
        self._processes.append(process)
        until(f"namespaces of {self.name}", (self.base / "entered").exists, 20, 0.05)

    def _containerd(self) -> None:
        config = self.base / "containerd.toml"
        config.write_text(CONTAINERD.format(pause=PAUSE, snapshotter="overlayfs"))
        self.start("containerd", "containerd", "--config", config)
        until("containerd", lambda: self.ctr("version"), 30, 0.2)

    def _kubelet(self) -> None:
        config = self.base / "kubelet.yaml"
        config.write_text(KUBELET.format(cgroup=f"/{self.netns}"))
        kubeconfig = self.base / "kubeconfig"
        self.control.write_kubeconfig(kubeconfig, f"node-{self.name}")
        for hierarchy in v1_hierarchies():
            (hierarchy / self.netns).mkdir(exist_ok=True)
        cpus = Path("/sys/fs/cgroup/cpuset")
        if cpus.is_dir():
            for name in ("cpuset.cpus", "cpuset.mems"):
                (cpus / self.netns / name).write_text((cpus / name).read_text())
        self.start(
            "kubelet", self.control.binaries / "kubelet", "--config", config,
            "--kubeconfig", kubeconfig, "--hostname-override", self.name,
            "--node-ip", f"{self.address},{self.address6}", "--v=2",
        )  # fmt: skip

    def start(self, name: str, *command: object) -> None:
        """A process of the node."""
        join = f'echo $$ > {self.cgroup}/cgroup.procs; exec "$@"'
        with (self.base / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["nsenter", "-t", str(self._holder), "-m", "-n", "--", "sh", "-c", join, "sh",
                 *map(str, command)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)

    def run(self, *command: object, timeout: float = 120, check: bool = True) -> str:
        """Run a command on the node."""
        enter = ("nsenter", "-t", self._holder, "-m", "-n", "--")
        return run(*enter, *command, timeout=timeout, check=check)

    def ctr(self, *arguments: object) -> str:
        """containerd's own command, in kubelet's namespace."""
        return self.run("ctr", "-n", "k8s.io", *arguments)

    def down(self) -> None:
        """End every process, then remove what they had."""
        clear(self.netns, self.base)
        for process in self._processes:
            process.wait()


def v1_hierarchies() -> list[Path]:
    """Controllers of cgroup v1, where the machine has them."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return []
    return [p for p in root.iterdir() if p.is_dir() and p.name != "unified" and not p.is_symlink()]


def clear(netns: str, base: Path | None = None) -> None:
    """Remove a node, also one whose test was killed: processes by cgroup, then the rest."""
    cgroup = UNIFIED / netns
    end = time.monotonic() + 20
    while cgroup.exists() and time.monotonic() < end:
        pids = [pid for path in cgroup.rglob("cgroup.procs") for pid in path.read_text().split()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if not pids:
            break
        time.sleep(0.1)
    for root in (*(h / netns for h in v1_hierarchies()), cgroup):
        remove_cgroups(root)
    run("ip", "netns", "delete", netns, check=False)
    if base is not None:
        shutil.rmtree(base, ignore_errors=True)


def remove_cgroups(root: Path) -> None:
    """A group and all below it, from the bottom; one is busy until its last process is reaped."""
    end = time.monotonic() + 5
    while root.is_dir() and time.monotonic() < end:
        folders = [Path(folder) for folder, _, _ in os.walk(root, topdown=False)]
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        time.sleep(0.05)
