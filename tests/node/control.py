"""The control plane: etcd, API server, controller manager and scheduler in a namespace of its own.

The namespace is the world outside the nodes: it holds the bridge that they are on, their gateway,
and a web server that stands for the internet.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Final

from axoneme.core.lab.apiserver import ApiServer
from axoneme.core.lab.netns import run_in
from tests.node.shell import run

WORLD: Final = "axn-world"
ADDRESS: Final = "172.19.0.1"
ADDRESS6: Final = "fd00:19::1"
OUTSIDE: Final = "198.51.100.1"
OUTSIDE6: Final = "2001:db8:51::1"
PORTS: Final = (2379, 2380, 6443)


def make_world() -> None:
    """The namespace with its bridge; what an earlier run left goes first."""
    run("ip", "netns", "add", WORLD)
    inside = ("ip", "-n", WORLD)
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "link", "add", "br0", "type", "bridge")
    for address in (f"{ADDRESS}/24", f"{ADDRESS6}/64", f"{OUTSIDE}/32", f"{OUTSIDE6}/128"):
        run(*inside, "address", "add", address, "dev", "br0", *(["nodad"] * (":" in address)))
    run(*inside, "link", "set", "br0", "up")
    for name in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
        run("nsenter", f"--net=/run/netns/{WORLD}", "sysctl", "-q", f"net.{name}=1")


class ControlPlane(ApiServer):
    """TLS, RBAC and admission on, and what a cluster's nodes and workloads need besides."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        super().__init__(folder, binaries, ADDRESS, PORTS)
        self.audit = folder / "audit.log"

    def up(self, nodes: list[str]) -> None:
        """All four processes; ready when it returns."""
        self.prepare()
        tokens = self.folder / "tokens.csv"
        lines = [f'node-{n},system:node:{n},{n},"system:nodes"' for n in nodes]
        tokens.write_text(tokens.read_text() + "\n".join(lines) + "\n")
        (self.folder / "audit.yaml").write_text(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n"
            "rules:\n- level: Metadata\n  userGroups: ['system:serviceaccounts:kube-system']\n"
            "- level: None\n"
        )
        self.start_etcd()
        run_in(Path("/run/netns") / WORLD, self.start_api)
        self.spawn(
            "kube-controller-manager", f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--root-ca-file={self.folder / 'ca.crt'}", "--use-service-account-credentials",
            "--allocate-node-cidrs", "--cluster-cidr=10.245.0.0/16,fd00:10:245::/56",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
            "--node-monitor-period=2s", "--node-monitor-grace-period=60s",
            "--leader-elect=false", "--bind-address=127.0.0.1",
        )  # fmt: skip
        self.spawn(
            "kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false",
            "--bind-address=127.0.0.1",
        )  # fmt: skip

    def spawn(self, name: str, *arguments: str) -> None:
        """In the world's namespace."""
        extra = (
            (
                f"--audit-policy-file={self.folder / 'audit.yaml'}",
                f"--audit-log-path={self.audit}",
                "--kubelet-preferred-address-types=InternalIP",
                "--endpoint-reconciler-type=lease",
            )
            if name == "kube-apiserver"
            else ()
        )
        log = (self.folder / f"{name}.log").open("ab")
        self._processes[name] = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{WORLD}", str(self.binaries / name), *arguments, *extra],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        log.close()

    def down(self) -> None:
        """End everything and remove the namespace."""
        for process in self._processes.values():
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._processes.clear()
        run("ip", "netns", "delete", WORLD, check=False)

    def kubectl(self, *arguments: str, text: str = "", timeout: float = 120) -> str:
        """The real command, from the world."""
        command = (self.binaries / "kubectl", "--kubeconfig", self.kubeconfig, *arguments)
        return run("nsenter", f"--net=/run/netns/{WORLD}", *command, text=text, timeout=timeout)

    def helm(self, *arguments: str, timeout: float = 400) -> str:
        """The real command, from the world."""
        command = (self.binaries / "helm", "--kubeconfig", self.kubeconfig, *arguments)
        return run("nsenter", f"--net=/run/netns/{WORLD}", *command, timeout=timeout)
