"""The whole cluster, up and down; ``python -m tests.node.cluster up|down`` keeps one to look at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import yaml

from axoneme.core.lab.apiserver import executables
from tests.node import images, machine
from tests.node.control import ADDRESS, WORLD, ControlPlane
from tests.node.machine import Machine
from tests.node.shell import run, until

BASE: Final = Path("/var/tmp/axn")
CHART: Final = images.ROOT / "deploy/helm/axoneme"
VALUES: Final[dict[str, Any]] = {
    "image": {"repository": images.OURS, "tag": "0.1.0", "pullPolicy": "Never"},
    "k8sServiceHost": ADDRESS,
    "k8sServicePort": 6443,
    "kubeProxyReplacement": "true",
    "ipv6": {"enabled": True},
    "ipam": {
        "operator": {
            "clusterPoolIPv4PodCIDRList": ["10.244.0.0/16"],
            "clusterPoolIPv6PodCIDRList": ["fd00:10:244::/104"],
        }
    },
    "cgroup": {"hostRoot": "/run/cgroupv2"},
    "bpf": {"masquerade": True},
    "operator": {"replicas": 1},
    "prometheus": {"enabled": True},
}


class Cluster:
    """Control plane and machines; the chart is installed by :meth:`install`."""

    def __init__(self, nodes: int = 1) -> None:
        binaries = executables()
        assert binaries is not None, "scripts/build-kubernetes node"
        self.control = ControlPlane(BASE / "control", binaries)
        self.machines = [Machine(BASE, self.control, n + 1) for n in range(nodes)]
        self._began = time.monotonic()

    def step(self, text: str) -> None:
        """One line of the log of steps."""
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", flush=True)

    def up(self) -> None:
        """Everything but the chart."""
        clear()
        BASE.mkdir(parents=True)
        self.step("building the image")
        given = os.environ.get("AXONEME_IMAGE_ARCHIVE")
        self.archive = Path(given) if given else images.build_ours(BASE)
        archives = [self.archive, *images.small(BASE)]
        self.step(f"image of {archives[0].stat().st_size >> 20} MiB; starting the control plane")
        from tests.node.control import make_world

        make_world()
        self.control.up([m.name for m in self.machines])
        self.step("API server ready; starting the nodes")
        for each in self.machines:
            each.up(archives)
            self.step(f"{each.name}: containerd has the images, kubelet is started")
        for each in self.machines:
            until("node registered", lambda e=each: self.control.kubectl("get", "node", e.name), 60)
        self.step("nodes registered")

    def install(self, values: dict[str, Any] | None = None, command: str = "install") -> None:
        """The chart by helm; returns when helm says it is ready."""
        path = BASE / "values.yaml"
        path.write_text(yaml.safe_dump({**VALUES, **(values or {})}))
        self.control.helm(
            command, "axoneme", str(CHART), "-n", "kube-system", "-f", str(path),
            "--wait", "--timeout", "5m",
        )  # fmt: skip
        self.step(f"helm {command}: DaemonSet and operator ready")

    def down(self) -> None:
        """Everything."""
        for each in self.machines:
            each.down()
        self.control.down()
        shutil.rmtree(BASE, ignore_errors=True)


def clear() -> None:
    """What an earlier run left, also one that was killed."""
    subprocess.run(["pkill", "-9", "-f", f"{BASE}/control"], check=False)
    for name in run("ip", "netns", "list").split("\n"):
        word = name.split(" ")[0]
        if word.startswith("axn-") and word != WORLD:
            machine.clear(word)
    run("ip", "netns", "delete", WORLD, check=False)
    shutil.rmtree(BASE, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1] == "up":
        cluster = Cluster(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
        cluster.up()
        cluster.install()
    else:
        clear()
