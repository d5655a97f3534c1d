"""The store of a lab: its folder, or its API server, which lives in the namespace of the world.

A thread enters that namespace before it opens a socket, and so speaks to the server as a machine
of the underlay would. What a real server asks of objects and a lab's manifests leave out is filled
in here.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

from axoneme.core.errors import AxonemeError, LabError, NotFoundError
from axoneme.core.lab import netns, processes
from axoneme.core.lab.apiserver import ApiServer, executables
from axoneme.core.lab.model import Lab
from axoneme.core.lab.paths import WORLD, LabPaths
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.store import manifest
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.store.sync import BlockingStore, SyncStore

T = TypeVar("T")

ADDRESS: Final = "172.18.0.1"
"""Of the gateway, which is the world's end of the underlay."""
PORTS: Final = (2379, 2380, 6443)
IMAGE: Final = "lab"
FOREIGN: Final = ("policy.networking.k8s.io",)
SECONDS: Final = 60.0
TEMPLATED: Final = ("Deployment", "DaemonSet", "ReplicaSet", "StatefulSet")


def is_kubernetes(lab: Lab) -> bool:
    """Whether the lab has an API server."""
    return lab.config.get("store") == "kubernetes"


def open_store(lab: Lab, kinds: KindRegistry | None = None) -> BlockingStore:
    """The lab's store."""
    if is_kubernetes(lab):
        return KubernetesSync(lab.paths, kinds)
    return SyncStore(lab.paths.store, kinds)


def place(store: BlockingStore, body: Mapping[str, Any], node: str) -> ClusterObject:
    """Write a pod with its node."""
    if isinstance(store, KubernetesSync):
        return store.place(body, node)
    return store.apply(_on(body, node))


def _on(body: Mapping[str, Any], node: str) -> dict[str, Any]:
    return {**body, "spec": {**body["spec"], "nodeName": node}}


class LabServer(ApiServer):
    """etcd and kube-apiserver as processes of the lab."""

    def __init__(self, paths: LabPaths) -> None:
        binaries = executables()
        if binaries is None:
            raise LabError(
                "there is no kube-apiserver, etcd and kubectl",
                hint="run scripts/build-kubernetes once, or set KUBEBUILDER_ASSETS",
            )
        super().__init__(paths.root / "kubernetes", binaries, ADDRESS, PORTS)
        self._paths = paths

    def spawn(self, name: str, *arguments: str) -> None:
        """In the world's namespace, found again by its pid file."""
        processes.spawn(
            self._paths.netns(WORLD),
            [str(self.binaries / name), *arguments],
            log=self.folder / f"{name}.log",
            pid_file=self.folder / f"{name}.pid",
        )

    def start_all(self) -> None:
        """Both; ready when it returns."""
        self.prepare()
        self.start_etcd()
        netns.run_in(self._paths.netns(WORLD), self.start_api)


class KubernetesSync:
    """Blocking verbs over the lab's API server."""

    def __init__(self, paths: LabPaths, kinds: KindRegistry | None = None) -> None:
        from axoneme.core.k8s.access import open_access  # noqa: PLC0415 # an optional part
        from axoneme.core.k8s.store import KubernetesStore  # noqa: PLC0415

        self._loop = asyncio.new_event_loop()
        ready = threading.Event()

        def work() -> None:
            netns.enter(paths.netns(WORLD))
            asyncio.set_event_loop(self._loop)
            ready.set()
            self._loop.run_forever()

        threading.Thread(target=work, daemon=True, name="lab-store").start()
        ready.wait(10)
        config = str(paths.root / "kubernetes" / "kubeconfig")
        self._store = KubernetesStore(self._do(open_access(config)), kinds, manager="lab")
        self.kinds = self._store.kinds

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def list(self, kind: str) -> list[ClusterObject]:
        """Every object; none of a kind that the server has not got."""
        try:
            return self._do(self._store.list(kind))
        except NotFoundError:
            return []

    def get(self, key: ObjectKey) -> ClusterObject:
        """One object."""
        return self._do(self._store.get(key))

    def exists(self, key: ObjectKey) -> bool:
        """Whether it is there."""
        with contextlib.suppress(NotFoundError):
            self.get(key)
            return True
        return False

    def apply(self, body: Mapping[str, Any]) -> ClusterObject:
        """Server-side apply of the completed object; a pod is bound to its node."""
        key = self.key_of(body)
        whole = completed(body)
        if key.kind == "Pod":
            self._bind(key, str((whole.get("spec") or {}).get("nodeName") or ""))
        obj = self._do(self._store.apply(whole))
        if key.kind == "Namespace":  # what a controller manager does
            account = {"name": "default", "namespace": key.name}
            self._do(
                self._store.apply(
                    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}
                )
            )
        return obj

    def place(self, body: Mapping[str, Any], node: str) -> ClusterObject:
        """Bind a pod to its node; one that is not there yet is applied.

        What was read from the server must not be applied: its defaults would be ours by that,
        and a user's next apply would take them away, which is forbidden.
        """
        key = self.key_of(body)
        if not self.exists(key):
            return self.apply(_on(body, node))
        self._bind(key, node)
        return self.get(key)

    def _bind(self, key: ObjectKey, node: str) -> None:
        """As a scheduler: the node of a pod that is there can be set in no other way."""
        with contextlib.suppress(NotFoundError):
            present = self.get(key)
            if node and not present.spec.get("nodeName"):
                path = f"/api/v1/namespaces/{key.namespace}/pods/{key.name}/binding"
                target = {"apiVersion": "v1", "kind": "Node", "name": node}
                body = {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": key.name},
                    "target": target,
                }
                self._do(self._store.client.call("POST", path, str(key), body=body))

    def update_status(
        self, key: ObjectKey, status: Mapping[str, Any], version: str = ""
    ) -> ClusterObject:
        """Replace the status."""
        return self._do(self._store.update_status(key, status, version))

    def delete(self, key: ObjectKey, version: str = "") -> None:
        """Delete."""
        self._do(self._store.delete(key, version))

    def key_of(self, body: Mapping[str, Any], where: str = "manifest") -> ObjectKey:
        """The key of a manifest."""
        return manifest.key_of(body, self.kinds, where)

    def kinds_present(self) -> tuple[str, ...]:
        """All that are known."""
        return tuple(k.kind for k in self.kinds)

    def install_foreign(self) -> None:
        """Kinds of other projects that policies are written in; in a cluster its owner does it."""
        from axoneme.core.k8s.definitions.install import install_one  # noqa: PLC0415

        for kind in self.kinds:
            if kind.policy and kind.group in FOREIGN:
                self._do(install_one(self._store, kind))

    def wait_for_definitions(self) -> None:
        """Until the operator has installed ours."""
        end = time.monotonic() + SECONDS
        missing = "ciliumnodes"
        while time.monotonic() < end:
            try:
                for kind in self.kinds:
                    missing = kind.plural
                    if kind.group == "cilium.io" or kind.group in FOREIGN:
                        self._do(self._store.list(kind.kind))
            except AxonemeError:
                time.sleep(0.1)
            else:
                return
        raise LabError(f"the operator has not installed the definition of {missing}")


def completed(body: Mapping[str, Any]) -> dict[str, Any]:
    """An image for containers that name none: the lab runs no images."""
    whole = dict(body)
    spec = dict(whole.get("spec") or {})
    if body.get("kind") == "Pod":
        whole["spec"] = _with_images(spec)
    elif body.get("kind") in TEMPLATED and isinstance(spec.get("template"), Mapping):
        template = dict(spec["template"])
        template["spec"] = _with_images(dict(template.get("spec") or {}))
        whole["spec"] = {**spec, "template": template}
    return whole


def _with_images(spec: dict[str, Any]) -> dict[str, Any]:
    for field in ("containers", "initContainers"):
        if isinstance(spec.get(field), list):
            spec[field] = [{"image": IMAGE, **c} for c in spec[field]]
    return spec
