"""Pods: a namespace, a real CNI call and a process that answers, made and removed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import select
import shlex
import shutil
import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from attrs import evolve

from axoneme.core.errors import AxonemeError, LabError, NotFoundError
from axoneme.core.lab import cgroups, cni, netns, processes, stores
from axoneme.core.lab.model import Lab, PodRecord
from axoneme.core.lab.paths import NETNS_DIR, WORLD, LabPaths
from axoneme.core.lab.workloads import PodPlan
from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.sync import BlockingStore

RESPONDER: Final = Path(__file__).parent / "bin" / "responder"
RESPONDER_SECONDS: Final = 10.0
AT_ONCE: Final = 8
"""Pods made at the same time; CNI calls are mostly waiting."""
WORLD_PORTS: Final = ("TCP:80", "TCP:443", "TCP:8080", "UDP:53", "UDP:8080")
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1


def create(
    lab: Lab, store: BlockingStore, plans: Mapping[str, PodPlan], placement: Mapping[str, str]
) -> dict[str, str]:
    """Make pods in parallel; returns the failures, message by full name."""
    records = {name: _new_record(lab, store, plans[name], placement[name]) for name in plans}
    netns.create(Path(r.netns).name for r in records.values())
    failures = {}

    def make(name: str) -> None:
        try:
            _make(lab, store, plans[name], records[name])
        except AxonemeError as error:
            failures[name] = str(error)
            _set_status(store, records[name], lab, error=str(error))
            destroy(lab, store, [records[name]], keep_object=True)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(make, records))
    return failures


def destroy(
    lab: Lab, store: BlockingStore, records: Iterable[PodRecord], *, keep_object: bool = False
) -> dict[str, str]:
    """Remove pods: processes, interface (CNI DEL), namespace, record, object."""
    doomed = list(records)
    names = {Path(r.netns).name for r in doomed}
    processes.kill_all(processes.inside(lab.paths, names.__contains__))
    failures = {}

    def remove(record: PodRecord) -> None:
        try:
            cni.delete(lab.paths, record)
        except AxonemeError as error:
            failures[record.full_name] = str(error)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(remove, doomed))
    netns.delete(names)
    for record in doomed:
        cgroups.remove_pod(lab.paths, record.node, Path(record.netns).name)
        record.path(lab.paths).unlink(missing_ok=True)
        if not keep_object:
            with contextlib.suppress(NotFoundError):
                store.delete(ObjectKey("Pod", record.namespace, record.name))
    return failures


def set_unschedulable(store: BlockingStore, plan: PodPlan) -> str:
    """Note in a pod's status that no node suits it; the message."""
    message = "no node matches the pod's nodeName or nodeSelector"
    key = ObjectKey("Pod", plan.namespace, plan.name)
    store.apply(plan.body)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    store.update_status(key, {"phase": "Pending", "message": message, "conditions": [condition]})
    return message


def start_world(paths: LabPaths) -> None:
    """Start the responder of the outside world."""
    info = {"pod": WORLD, "node": WORLD}
    _spawn_responder(paths.netns(WORLD), info, WORLD_PORTS, paths.root / "world.log")


def _new_record(lab: Lab, store: BlockingStore, plan: PodPlan, node: str) -> PodRecord:
    """Write the Pod object (the agent reads its labels from it) and the lab's own record."""
    obj = stores.place(store, plan.body, node)
    name = lab.paths.pod_netns_name(plan.namespace, plan.name)
    if (NETNS_DIR / name).exists():
        name += "-" + hashlib.sha256(plan.full_name.encode()).hexdigest()[:6]
        netns.delete([name])
    record = PodRecord(
        namespace=plan.namespace,
        name=plan.name,
        node=node,
        uid=obj.uid,
        container_id=secrets.token_hex(32),
        netns=str(NETNS_DIR / name),
        ports=plan.ports,
        template=plan.template,
    )
    record.save(lab.paths)
    return record


def _make(lab: Lab, store: BlockingStore, plan: PodPlan, record: PodRecord) -> None:
    cgroups.create(lab.paths, record.node, Path(record.netns).name)
    netns.run_in(Path(record.netns), _loopback_up)
    record = evolve(record, addresses=cni.add(lab.paths, record))
    record.save(lab.paths)
    warning = _start_process(lab.paths, plan, record)
    _set_status(store, record, lab, warning=warning)


def _loopback_up() -> None:
    """Set ``lo`` up, as the runtime's loopback plugin does (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _responder(info: Mapping[str, Any], ports: Iterable[str]) -> list[str]:
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    return [python, "-ISE", str(RESPONDER), json.dumps(info), *ports]


def _start_process(paths: LabPaths, plan: PodPlan, record: PodRecord) -> str:
    """Start the pod's command or its responder; returns a warning, empty when all is well."""
    log = paths.pods / f"{record.namespace}_{record.name}.log"
    if plan.command:
        try:
            command = shlex.split(plan.command)
        except ValueError as error:
            raise LabError(f"annotation {plan.command!r}: {error}") from error
        if command and shutil.which(command[0]) is None:
            raise LabError(f"annotation {plan.command!r}: no command {command[0]!r} here")
        if command:
            processes.spawn(Path(record.netns), command, log=log)
        return ""
    if not plan.ports:
        return ""
    info = {"pod": record.full_name, "node": record.node}
    ports = [f"{protocol}:{port}" for port, protocol in plan.ports]
    return _spawn_responder(Path(record.netns), info, ports, log)


def _spawn_responder(path: Path, info: Mapping[str, Any], ports: Iterable[str], log: Path) -> str:
    """Start a responder and wait until its ports listen; returns what it could not listen on."""
    read_end, write_end = os.pipe()
    try:
        command = _responder({**info, "ready_fd": write_end}, ports)
        processes.spawn(path, command, log=log, pass_fds=(write_end,))
        os.close(write_end)
        write_end = -1
        ready, _, _ = select.select([read_end], [], [], RESPONDER_SECONDS)
        answer = os.read(read_end, 65536) if ready else b""
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)
    if not answer:
        raise LabError(f"the responder did not start, see {log}")
    return "; ".join(json.loads(answer))


def _set_status(
    store: BlockingStore, record: PodRecord, lab: Lab, *, error: str = "", warning: str = ""
) -> None:
    """Write what a kubelet would into the Pod's status."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    node = lab.node(record.node)
    ready = "False" if error else "True"
    status: dict[str, Any] = {
        "phase": "Pending" if error else "Running",
        "hostIP": str(node.ipv4),
        "hostIPs": [{"ip": str(a)} for a in node.addresses],
        "startTime": now,
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": ready, "lastTransitionTime": now},
        ],
    }
    if record.addresses:
        status["podIP"] = str(record.addresses[0])
        status["podIPs"] = [{"ip": str(a)} for a in record.addresses]
    if error or warning:
        status["message"] = error or warning
    with contextlib.suppress(NotFoundError):
        store.update_status(ObjectKey("Pod", record.namespace, record.name), status)
