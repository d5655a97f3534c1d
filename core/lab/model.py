"""What a lab remembers between two commands: its nodes, its configuration, its pods."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from axoneme.core.errors import LabError
from axoneme.core.lab.paths import LabPaths

IPAddress = IPv4Address | IPv6Address


@frozen
class LabNode:
    """One node and its addresses on the underlay."""

    name: str
    ipv4: IPv4Address
    ipv6: IPv6Address

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """Both families, IPv4 first."""
        return (self.ipv4, self.ipv6)


@frozen
class PodRecord:
    """One pod namespace that the lab made: what is needed to probe and to remove it."""

    namespace: str
    name: str
    node: str
    uid: str
    container_id: str
    netns: str
    addresses: tuple[IPAddress, ...] = ()
    ports: tuple[tuple[int, str], ...] = ()
    """Container ports with their protocol: TCP, UDP or SCTP."""
    template: str = ""
    """Hash of what the pod was made from; another one means that it must be replaced."""

    @property
    def full_name(self) -> str:
        """``NS/POD``."""
        return f"{self.namespace}/{self.name}"

    def path(self, paths: LabPaths) -> Path:
        """File of the record; a namespace's name cannot hold an underscore."""
        return paths.pods / f"{self.namespace}_{self.name}.json"

    def save(self, paths: LabPaths) -> None:
        """Write the record."""
        body = {
            "namespace": self.namespace,
            "name": self.name,
            "node": self.node,
            "uid": self.uid,
            "container_id": self.container_id,
            "netns": self.netns,
            "addresses": [str(a) for a in self.addresses],
            "ports": [list(p) for p in self.ports],
            "template": self.template,
        }
        write_json(self.path(paths), body)

    @classmethod
    def load(cls, path: Path) -> PodRecord | None:
        """Read a record; ``None`` when it vanished meanwhile or was never completed."""
        try:
            body = json.loads(path.read_text())
            return cls(
                **body
                | {
                    "addresses": tuple(ip_address(a) for a in body["addresses"]),
                    "ports": tuple((int(n), str(p)) for n, p in body["ports"]),
                }
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


@frozen
class Lab:
    """A running lab."""

    paths: LabPaths
    nodes: tuple[LabNode, ...]
    config: Mapping[str, str]
    """What the user set; the lab's own defaults are added by :mod:`axoneme.core.lab.settings`."""

    def node(self, name: str) -> LabNode:
        """A node by name."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(n.name for n in self.nodes)
        raise LabError(f"node {name}: not in this lab", hint=f"nodes are {known}")

    def with_config(self, changes: Mapping[str, str]) -> Lab:
        """The same lab with other configuration."""
        return evolve(self, config={**self.config, **changes})

    def pods(self) -> list[PodRecord]:
        """Records of all pod namespaces, sorted by name."""
        records = (PodRecord.load(path) for path in sorted(self.paths.pods.glob("*.json")))
        return [record for record in records if record is not None]

    def save(self) -> None:
        """Write ``lab.json``."""
        write_json(
            self.paths.state_file,
            {
                "version": 1,
                "nodes": [
                    {"name": n.name, "ipv4": str(n.ipv4), "ipv6": str(n.ipv6)} for n in self.nodes
                ],
                "config": dict(self.config),
            },
        )

    @classmethod
    def load(cls, paths: LabPaths) -> Lab:
        """The lab that is running; raises with the way to start one."""
        try:
            body = json.loads(paths.state_file.read_text())
        except FileNotFoundError:
            if paths.root.exists():
                raise LabError(
                    "the lab was not started completely",
                    hint="remove what is there with `axoneme lab down`, then `axoneme lab up`",
                ) from None
            raise LabError("no lab is running", hint="start one with `axoneme lab up`") from None
        except (OSError, ValueError) as error:
            raise LabError(f"{paths.state_file}: {error}", hint="axoneme lab down") from error
        nodes = tuple(
            LabNode(n["name"], IPv4Address(n["ipv4"]), IPv6Address(n["ipv6"]))
            for n in body["nodes"]
        )
        return cls(paths, nodes, body["config"])


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Write a file whole or not at all: rename(2) over the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(body, indent=1) + "\n")
    temporary.replace(path)


@contextmanager
def locked(paths: LabPaths, timeout: float = float("inf")) -> Iterator[bool]:
    """Hold the lab for one command that changes it; flock(2) on its folder.

    Others wait, for at most ``timeout`` seconds; yields whether the lab is held.
    """
    try:
        fd = os.open(paths.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        deadline = time.monotonic() + timeout
        while not (held := _try_lock(fd)) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield held
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
