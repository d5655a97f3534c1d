"""Options of socket load balancing, under Cilium's names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry

KEY: Final = "bpf-lb-sock"
ROOTS: Final = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    add = options.add
    add(KEY, "bool", False, "Serve services where sockets connect; kube-proxy-replacement does.",
        helm="socketLB.enabled")  # fmt: skip
    add("bpf-lb-sock-hostns-only", "bool", False,
        "Leave pods' sockets alone; their packets are translated instead.",
        helm="socketLB.hostNamespaceOnly")  # fmt: skip
    add("bpf-lb-sock-terminate-pod-connections", "bool", True,
        "End sockets whose backend is gone, so that their programs ask again.",
        helm="socketLB.terminatePodConnections")  # fmt: skip
    add("node-port-bind-protection", "bool", True,
        "Refuse that programs of the node listen on node ports.",
        helm="nodePort.bindProtection")  # fmt: skip
    add("bpf-sock-rev-map-max", "int", 0,
        "Sockets whose service is remembered; 0: as bpf-lb-map-max.",
        min=0, max=1 << 24)  # fmt: skip
    add("cgroup-root", "string", "",
        "Cgroup v2 under which all sockets are; empty: that of the machine.",
        helm="cgroup.hostRoot")  # fmt: skip


def cgroup_root(config: Config) -> Path | None:
    """Where programs are attached; ``None``: this machine has no cgroup v2."""
    named = str(config["cgroup-root"])
    if named:
        return Path(named)
    return next((r for r in ROOTS if (r / "cgroup.controllers").exists()), None)
