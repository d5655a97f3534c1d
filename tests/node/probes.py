"""What the tests of a cluster ask from inside its pods."""

from __future__ import annotations

from tests.node.cluster import Cluster
from tests.node.shell import until


def execute(cluster: Cluster, pod: str, *command: str) -> str:
    """In a pod, by kubectl: so the kubelet is asked, too."""
    return cluster.control.kubectl("exec", pod, "--", *command, timeout=40)


class Stream:
    """A connection from the outside to a node port's echo, that must never break."""

    def __init__(self, cluster: Cluster, source: str, address: str) -> None:
        self.cluster, self.source = cluster, source
        execute(cluster, source, "sh", "-c",
                f"(while sleep 0.1; do echo x; done | nc {address} 9000 > /tmp/out; "
                "echo ended > /tmp/ended) > /dev/null 2>&1 &")  # fmt: skip
        until("the stream runs", lambda: self.count() > 3, 20)

    def count(self) -> int:
        """Lines that came back."""
        return int(execute(self.cluster, self.source, "sh", "-c", "wc -l < /tmp/out"))

    def check(self) -> None:
        """It goes on, and is still the first one."""
        before = self.count()
        until("the stream goes on", lambda: self.count() > before + 5, 20)
        ended = execute(self.cluster, self.source, "sh", "-c", "cat /tmp/ended 2>/dev/null || true")
        assert not ended.strip()
