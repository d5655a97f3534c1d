"""Calling the real CNI executable, as a container runtime does."""

from __future__ import annotations

import json
import os
import subprocess
import time
from ipaddress import ip_interface
from typing import Any, Final

from axoneme.core.cni.shim import executable
from axoneme.core.errors import LabError
from axoneme.core.lab import agents
from axoneme.core.lab.model import IPAddress, PodRecord
from axoneme.core.lab.paths import LabPaths

IFNAME: Final = "eth0"
TRY_AGAIN_LATER: Final = 11
"""CNI error code: the plugin is not ready, the runtime should try again (CNI 1.1, "Error")."""
AWAY_SECONDS: Final = 20.0
BUSY_SECONDS: Final = 1.0
CALL_SECONDS: Final = 100.0


class CniError(LabError):
    """The executable answered with an error; ``code`` is of the CNI specification."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


def add(paths: LabPaths, pod: PodRecord) -> tuple[IPAddress, ...]:
    """ADD, tried again while the agent is away; the pod's addresses, IPv4 first.

    A runtime would try for ever. An agent that is ready and still says "later" is out of something,
    addresses say: that is told soon.
    """
    start = time.monotonic()
    while True:
        try:
            return add_once(paths, pod)
        except CniError as error:
            waited = time.monotonic() - start
            limit = BUSY_SECONDS if agents.is_ready(paths, pod.node)[0] else AWAY_SECONDS
            if error.code != TRY_AGAIN_LATER or waited > limit:
                raise
            time.sleep(0.2)


def add_once(paths: LabPaths, pod: PodRecord) -> tuple[IPAddress, ...]:
    """One ADD; an error with code :data:`TRY_AGAIN_LATER` while the agent is away."""
    result = _call(paths, pod, "ADD")
    found = [ip_interface(ip["address"]).ip for ip in result.get("ips", ())]
    return tuple(sorted(found, key=lambda a: a.version))


def delete(paths: LabPaths, pod: PodRecord) -> None:
    """DEL; succeeds also when nothing is there, and is queued while the agent is away."""
    _call(paths, pod, "DEL")


def _call(paths: LabPaths, pod: PodRecord, command: str) -> dict[str, Any]:
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": pod.container_id,
        "CNI_NETNS": pod.netns,
        "CNI_IFNAME": IFNAME,
        "CNI_PATH": str(executable().parent),
        "CNI_ARGS": ";".join(
            (
                "IgnoreUnknown=1",
                f"K8S_POD_NAMESPACE={pod.namespace}",
                f"K8S_POD_NAME={pod.name}",
                f"K8S_POD_UID={pod.uid}",
                f"K8S_POD_INFRA_CONTAINER_ID={pod.container_id}",
            )
        ),
    }
    config = {
        "cniVersion": "1.1.0",
        "name": "axoneme",
        "type": "axoneme-cni",
        "socket-path": str(paths.socket(pod.node)),
    }
    try:
        done = subprocess.run(
            [str(executable())],
            env=environment,
            input=json.dumps(config),
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"axoneme-cni {command} {pod.full_name}: {error}") from error
    try:
        answer = json.loads(done.stdout) if done.stdout.strip() else {}
    except ValueError:
        answer = {"code": 999, "msg": f"no JSON: {done.stdout[:200]!r}"}
    if done.returncode or "code" in answer:
        message = answer.get("msg") or done.stderr.strip() or f"exit code {done.returncode}"
        details = f": {answer['details']}" if answer.get("details") else ""
        raise CniError(f"{message}{details}", code=int(answer.get("code", 999)))
    return dict(answer)
