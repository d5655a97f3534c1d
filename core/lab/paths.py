"""Names and places of a lab, all derived from its name, so that ``down`` can find what is ours.

The default lab is ``lab``. Another name (environment ``AXONEME_LAB``) makes an independent lab
beside it; the tests use that to leave a developer's lab alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from attrs import frozen

from axoneme.core.errors import LabError

ENVIRONMENT: Final = "AXONEME_LAB"
DEFAULT_NAME: Final = "lab"
RUNTIME_DIR: Final = Path("/run/axoneme")
NETNS_DIR: Final = Path("/run/netns")
BPF_DIR: Final = Path("/sys/fs/bpf")
LIB_DIR: Final = Path("/var/lib/axoneme")
"""Shared by all labs on purpose: compiled programs are cached below it, by content."""

WORLD: Final = "world"
UNDERLAY: Final = "underlay"
OPERATOR: Final = "operator"
_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")


@frozen
class LabPaths:
    """Where one lab keeps things, and what it calls them in the kernel."""

    name: str = DEFAULT_NAME

    @classmethod
    def current(cls) -> LabPaths:
        """The lab that this process works on."""
        name = os.environ.get(ENVIRONMENT, DEFAULT_NAME) or DEFAULT_NAME
        if not _NAME.fullmatch(name) or name == "pod":
            raise LabError(
                f"{ENVIRONMENT}={name!r} is no name for a lab",
                hint="use up to 12 small letters and digits, a letter first",
            )
        return cls(name)

    @property
    def root(self) -> Path:
        """Runtime folder; its existence means that a lab is there, whole or not."""
        return RUNTIME_DIR / self.name

    @property
    def state_file(self) -> Path:
        """``lab.json``, written last by ``up``."""
        return self.root / "lab.json"

    @property
    def store(self) -> Path:
        """The manifest folder that all agents and the operator share."""
        return self.root / "store"

    @property
    def pods(self) -> Path:
        """One JSON record per pod namespace."""
        return self.root / "pods"

    @property
    def bpf(self) -> Path:
        """The lab's part of the BPF file system."""
        return BPF_DIR / f"axo-{self.name}"

    @property
    def cgroup(self) -> str:
        """Name of the lab's cgroup, below whichever cgroup v2 root the machine has."""
        return f"axo-{self.name}"

    def node(self, node: str) -> Path:
        """State folder of a node (or of the operator): socket, log, configuration, endpoints."""
        return self.root / "nodes" / node

    def socket(self, node: str) -> Path:
        """The agent's local API socket."""
        return self.node(node) / "axoneme.sock"

    def log(self, node: str) -> Path:
        """Standard error of the agent or the operator."""
        return self.node(node) / ("operator.log" if node == OPERATOR else "agent.log")

    def pid_file(self, node: str) -> Path:
        """Process id of the agent or the operator."""
        return self.node(node) / ("operator.pid" if node == OPERATOR else "agent.pid")

    def bpf_root(self, node: str) -> Path:
        """``bpf-root`` of a node's agent."""
        return self.bpf / node

    def netns_name(self, node: str) -> str:
        """Namespace of a node, of the underlay or of the world."""
        return f"axo-{self.name}-{node}"

    def netns(self, node: str) -> Path:
        """Path of :meth:`netns_name`."""
        return NETNS_DIR / self.netns_name(node)

    def pod_netns_name(self, namespace: str, pod: str) -> str:
        """Namespace of a pod. Not unique by itself: ``a-b/c`` and ``a/b-c`` read the same."""
        return f"{self.pod_prefix}{namespace}-{pod}"

    @property
    def pod_prefix(self) -> str:
        """What the names of pods' namespaces begin with."""
        return "axo-pod-" if self.name == DEFAULT_NAME else f"axo-{self.name}-pod-"

    def owns_netns(self, name: str) -> bool:
        """Whether a namespace of this name belongs to this lab."""
        return name.startswith((f"axo-{self.name}-", self.pod_prefix))
