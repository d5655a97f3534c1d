"""What the running kernel can do, asked of the kernel itself: a skip names what is missing."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from uuid import uuid4

from axoneme.core.errors import NetlinkError
from axoneme.core.netlink.namespaces import create_netns, delete_netns


def is_root() -> bool:
    """Whether namespaces can be made and programs loaded."""
    return os.geteuid() == 0


@cache
def device_kind(kind: str) -> bool:
    """Whether the kernel can make a device of this kind (``geneve``, ``wireguard`` …)."""
    if not is_root():
        return False
    name = f"axot-{uuid4().hex[:8]}"
    try:
        create_netns(name)
        made = subprocess.run(
            ["ip", "-n", name, "link", "add", "axotprobe", "type", kind, *_EXTRA.get(kind, ())],
            capture_output=True,
            check=False,
        )
        return made.returncode == 0
    except NetlinkError:
        return False
    finally:
        delete_netns(name)


_EXTRA = {"geneve": ("external",), "vxlan": ("external",)}


def missing(capability: str) -> str:
    """Why ``capability`` is not there, or ``""``.

    Known: ``root``, ``device:KIND``, ``kubernetes`` (a real API server's executables).
    """
    if capability == "kubernetes":
        from axoneme.core.lab.apiserver import executables  # noqa: PLC0415 - seldom asked

        return (
            "" if executables() else "kube-apiserver and etcd (scripts/build-kubernetes needs Go)"
        )
    if capability == "root":
        return "" if is_root() else "root (CAP_NET_ADMIN, CAP_BPF)"
    sort, _, name = capability.partition(":")
    if sort == "device":
        return "" if device_kind(name) else f"kernel without {name} devices"
    raise ValueError(f"unknown capability {capability!r}")
