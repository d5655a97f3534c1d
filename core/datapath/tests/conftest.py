"""Fixtures: a private folder of the BPF file system, a private network namespace."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000


@pytest.fixture
def bpf_root() -> Iterator[Path]:
    """A folder of /sys/fs/bpf that only this test uses."""
    if os.geteuid() != 0:
        pytest.skip("needs root: CAP_BPF")
    path = Path(f"/sys/fs/bpf/axot-{secrets.token_hex(4)}")
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def veth() -> Iterator[tuple[int, int]]:
    """A new network namespace for this thread with the pair axot0, axot1; their indexes."""
    if os.geteuid() != 0:
        pytest.skip("needs root: CAP_NET_ADMIN")
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0
    try:
        for command in (
            "sysctl -qw net.ipv6.conf.default.disable_ipv6=1",  # the kernel's own packets
            "ip link set lo up",
            "ip link add axot0 type veth peer name axot1",
            "ip link set axot0 up",
            "ip link set axot1 up",
        ):
            subprocess.run(command.split(), check=True)
        yield tuple(  # type: ignore[misc]
            int(subprocess.check_output(["ip", "-o", "link", "show", n]).split(b":")[0])
            for n in ("axot0", "axot1")
        )
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One compile cache for the whole run."""
    return tmp_path_factory.mktemp("cache")
