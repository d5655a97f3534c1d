"""A lab of two nodes on a real API server that can be killed, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from axoneme.core.lab import netns
from axoneme.core.lab.paths import WORLD, LabPaths
from axoneme.core.lab.stores import LabServer
from tests.services.modes import LabRun


class OnKubernetes(LabRun):
    """Whose objects live at an API server."""

    def __init__(self, name: str, manifest: str) -> None:
        super().__init__(name, "snat", "tunnel", manifest=manifest)

    def __enter__(self) -> OnKubernetes:
        try:
            self.run("lab", "up", "--store", "kubernetes")
            self.apply(self._manifest)
        except BaseException:
            self.__exit__()
            raise
        return self

    def kubectl(self, *arguments: str) -> str:
        """The real command."""
        return self.run("lab", "kubectl", *arguments)

    def verdict(self, pod: str) -> str:
        """Of a connection from a pod to the service."""
        probe = ("lab", "probe", f"shop/{pod}", "shop/web", "--port", "80", "-o", "json")
        return str(json.loads(self.run(*probe, check=False))["verdict"])

    def status(self, node: str = "node1") -> dict[str, str]:
        """Of a node: bad components and what they say."""
        text = self.run("status", "--node", node, "-o", "json", check=False)
        if not text.strip():
            return {"agent": "does not answer"}
        report = json.loads(text)
        bad = [c for c in report["components"] if c["health"] in ("Warning", "Failure")]
        return {str(c["name"]): str(c["message"]) for c in bad}

    def store_health(self) -> str:
        """What node1 says of the API server."""
        return "Warning" if "store" in self.status() else "Ok"

    def kill_server(self) -> None:
        """The API server of this lab, without a warning."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes()
                if b"kube-apiserver\0" in words and f"/{self.name}/".encode() in words:
                    os.kill(int(process.name), signal.SIGKILL)

    def start_server(self, paths: LabPaths) -> None:
        """The same one again; returns when it is ready."""
        netns.run_in(paths.netns(WORLD), LabServer(paths).start_api)


def eventually(read: Callable[[], object], wanted: object, seconds: float = 20) -> None:
    """Within some seconds."""
    end = time.monotonic() + seconds
    while (found := read()) != wanted and time.monotonic() < end:
        time.sleep(0.2)
    assert found == wanted
