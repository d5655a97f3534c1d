"""Real containers: containerd and runc call our CNI executable through ``ctr run --cni``.

The image is made here out of a static busybox; containerd keeps everything below a folder of its
own. ``ctr`` looks for CNI files in fixed places, so it runs in a mount namespace in which these
are ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.cni.install import install

from .conftest import Cluster

IMAGE = "axoneme.test/busybox:1"
BUSYBOX = Path("/usr/bin/busybox")
GREETING = b"hello from a real container"

MISSING = [x for x in ("containerd", "ctr", "runc") if shutil.which(x) is None]
pytestmark = [
    pytest.mark.root,
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="not installed: busybox-static"),
]

CONFIG = """\
version = 2
root = "{base}/root"
state = "{base}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{base}/containerd.sock"
[ttrpc]
  address = "{base}/containerd.ttrpc"
"""

ENTER = """\
set -e
mount --make-rprivate /
mount -t overlay overlay -o lowerdir=/etc,upperdir={base}/up,workdir={base}/work /etc
mkdir -p /etc/cni/net.d
mount --bind {base}/conf /etc/cni/net.d
mount -t tmpfs none /opt
mkdir -p /opt/cni/bin
mount --bind {base}/bin /opt/cni/bin
mkdir -p {base}/cache
if [ -d /var/lib/cni ]; then mount --bind {base}/cache /var/lib/cni; fi
exec "$@"
"""


def make_image(path: Path) -> None:
    """An image in Docker's archive form: busybox and a file to serve."""
    layer = archive(
        {
            "bin/busybox": (BUSYBOX.read_bytes(), 0o755),
            "www/index.html": (GREETING, 0o644),
        },
        ("bin", "www", "proc", "sys", "dev", "etc", "tmp"),
    )
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/busybox", "sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    path.write_bytes(
        archive(
            {
                "layer.tar": (layer, 0o644),
                "config.json": (json.dumps(config).encode(), 0o644),
                "manifest.json": (json.dumps(manifest).encode(), 0o644),
            }
        )
    )


def archive(files: dict[str, tuple[bytes, int]], folders: tuple[str, ...] = ()) -> bytes:
    """A tar of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for name, (data, mode) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def unique(name: str) -> str:
    """An id of this run alone: runc keeps its state in one folder for the whole machine."""
    return f"axot-{os.getpid()}-{name}"


def removed(group: Path) -> bool:
    """Whether a cgroup is gone; it can go when its processes have ended."""
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


class Containerd:
    """A containerd of our own and the ``ctr`` that talks to it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.log = (base / "containerd.log").open("wb")
        for folder in ("up", "work", "cache"):
            (base / folder).mkdir()
        (base / "config.toml").write_text(CONFIG.format(base=base))
        (base / "enter.sh").write_text(ENTER.format(base=base))
        self.process = subprocess.Popen(
            ["containerd", "-c", str(base / "config.toml")], stdout=self.log, stderr=self.log
        )
        wait_for(lambda: self.ctr("version", check=False).returncode == 0)
        make_image(base / "image.tar")
        self.ctr("images", "import", str(base / "image.tar"))

    def ctr(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``ctr``."""
        command = ["ctr", "-a", str(self.base / "containerd.sock"), *arguments]
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60)

    def run(self, name: str, script: str) -> subprocess.Popen[str]:
        """``ctr run --cni`` of a shell script in a container; it ends with the script."""
        return subprocess.Popen(
            [
                *("unshare", "--mount", "sh", str(self.base / "enter.sh")),
                *("ctr", "-a", str(self.base / "containerd.sock")),
                *("run", "--rm", "--cni", IMAGE, unique(name), "/bin/busybox", "sh", "-c", script),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self, name: str) -> None:
        """End a container's process."""
        self.ctr("tasks", "kill", "-s", "SIGKILL", unique(name), check=False)

    def close(self) -> None:
        """End everything that was started below our folder."""
        for pid in self._shims():
            os.kill(pid, signal.SIGTERM)
        self.process.terminate()
        self.process.wait(10)
        self.log.close()
        # runc refuses a container whose hooks or network failed and forgets its own folders.
        for state in Path("/run/containerd/runc/default").glob(unique("*")):
            shutil.rmtree(state, ignore_errors=True)
        # Its process waits for ever for the start that never comes.
        groups = list(Path("/sys/fs/cgroup").glob(f"**/default/{unique('*')}"))
        for pid in {p for g in groups for p in (g / "cgroup.procs").read_text().split()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda: all(map(removed, groups)))
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            where = line.split()[1]
            if where.startswith(f"{self.base}/"):
                subprocess.run(["umount", "-l", where], check=False)

    def _shims(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = path.read_bytes()
            except OSError:
                continue
            if b"containerd-shim" in command and bytes(self.base / "containerd.sock") in command:
                found.append(int(path.parent.name))
        return found


def wait_for(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Poll until ``condition`` says yes."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Cluster:
    """A lab of one node."""
    cluster.up(1)
    return cluster


@pytest.fixture(scope="module")
def containerd(node: Cluster) -> Iterator[Containerd]:
    """containerd with our executable installed where ``ctr`` looks."""
    base = Path(tempfile.mkdtemp(prefix="axot-ct"))
    socket = node.root / "nodes" / "node1" / "axoneme.sock"
    install(base / "bin", base / "conf", socket=str(socket))
    made = None
    try:
        made = Containerd(base)
        yield made
    finally:
        if made is not None:
            made.close()
        shutil.rmtree(base, ignore_errors=True)


def endpoints(node: Cluster) -> list[dict[str, Any]]:
    """What the agent knows."""
    rows: list[dict[str, Any]] = node.call("node1", "endpoint", "list")
    return rows


def fetch(node: Cluster, address: str) -> bytes:
    """What the container's web server says to the node; empty while it does not."""
    host = f"[{address}]" if ":" in address else address
    get = f"from urllib.request import *; print(urlopen('http://{host}:8080/').read().decode())"
    command = ("/usr/bin/python3", "-c", get)
    return node.run("lab", "node", "node1", "--", *command, check=False).stdout.encode()


def test_container_is_connected_and_cleaned_up(node: Cluster, containerd: Containerd) -> None:
    """A container gets an interface in both families, serves the node, and leaves nothing."""
    script = "/bin/busybox ip address; exec /bin/busybox httpd -f -p 8080 -h /www"
    process = containerd.run("web", script)
    try:
        (row,) = wait_for(lambda: endpoints(node))
        addresses = [row[x] for x in ("ipv4", "ipv6") if row.get(x)]
        assert len(addresses) == 2, row
        for address in addresses:
            wait_for(lambda a=address: GREETING in fetch(node, a))
    finally:
        containerd.kill("web")
        output, errors = process.communicate(timeout=30)
    for address in addresses:
        assert address in output, output + errors
    assert wait_for(lambda: not endpoints(node))
    links = node.run("lab", "node", "node1", "--", "ip", "-br", "link").stdout
    assert "axoneme-endpoint" not in links
    assert row["ifname"] not in links if "ifname" in row else True


def test_agent_away(node: Cluster, containerd: Containerd) -> None:
    """While the agent is away a container is refused; one that ends then is tidied up later."""
    process = containerd.run("sleeper", "exec /bin/busybox sleep 300")
    try:
        wait_for(lambda: endpoints(node))
        node.agent("node1", "stop")
        refused = containerd.run("late", "true")
        _, errors = refused.communicate(timeout=30)
        assert refused.returncode != 0
        assert "the agent is not running, try again later" in errors
    finally:
        containerd.kill("sleeper")
        process.communicate(timeout=30)
        node.agent("node1", "start")
    wait_for(lambda: not endpoints(node), 30)
    queue = node.root / "nodes" / "node1" / "cni-delete-queue"
    assert list(queue.iterdir()) == []
