"""``axoneme lab up``: from nothing to N ready nodes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from axoneme.core.errors import LabError
from axoneme.core.ipam.blocks import BlockPool
from axoneme.core.lab import agents, cleanup, pods, stores, underlay
from axoneme.core.lab.model import Lab, LabNode, locked
from axoneme.core.lab.output import Output, count
from axoneme.core.lab.paths import BPF_DIR, OPERATOR, LabPaths
from axoneme.core.lab.settings import POOL4, POOL6, cluster_config
from axoneme.core.lab.shell import run


def up(paths: LabPaths, count: int, config: Mapping[str, str], output: Output) -> Lab:
    """Start a lab; when anything fails, what was made goes again and the reason is raised."""
    if not 1 <= count <= underlay.MAX_NODES:
        raise LabError(f"--nodes {count}: a lab has 1 to {underlay.MAX_NODES} nodes")
    if os.geteuid() != 0:
        raise LabError("the lab needs root", hint="sudo axoneme lab up")
    _claim(paths, output)
    lab = Lab(paths, underlay.make_nodes(count), config)
    try:
        with locked(paths):
            _start(lab, output)
    except BaseException as error:
        if isinstance(error, agents.AgentFailedError) and not error.explained:
            output.note(error.log)
        with output.step("remove what was started"):
            cleanup.tear_down(paths)
        raise
    return lab


def _claim(paths: LabPaths, output: Output) -> None:
    """Make the lab's folder, which only one ``up`` can."""
    if not paths.root.exists() and cleanup.anything_there(paths):
        with output.step("remove what an earlier lab left"):
            cleanup.tear_down(paths)
    paths.root.parent.mkdir(parents=True, exist_ok=True)
    try:
        paths.root.mkdir(mode=0o700)
    except FileExistsError:
        lab = Lab.load(paths)  # raises with its own hint when it is not a whole one
        raise LabError(
            f"a lab of {count(len(lab.nodes), 'node')} is running already",
            hint="go on with `axoneme lab apply -f FILE`, or end it with `axoneme lab down`",
        ) from None


def _start(lab: Lab, output: Output) -> None:
    paths = lab.paths
    with output.step(f"underlay and {count(len(lab.nodes), 'node')}"):
        _mount_bpf()
        for folder in (paths.store, paths.pods):
            folder.mkdir(parents=True, exist_ok=True)
        accelerated = cluster_config(lab.config).get("bpf-lb-acceleration", "disabled")
        underlay.build(paths, lab.nodes, wire=accelerated != "disabled")
        pods.start_world(paths)
    if stores.is_kubernetes(lab):
        with output.step("etcd and kube-apiserver"):
            stores.LabServer(paths).start_all()
    store = stores.open_store(lab)
    for namespace in ("default", "kube-system"):
        store.apply(namespace_object(namespace))
    for node, cidrs in zip(lab.nodes, node_cidrs(lab), strict=True):
        store.apply(node_object(node, cidrs))
    with output.step("operator and agents"):
        names = [node.name for node in lab.nodes]
        agents.start(lab, OPERATOR)
        if isinstance(store, stores.KubernetesSync):
            store.install_foreign()
            store.wait_for_definitions()
        for name in names:
            agents.start(lab, name)
        agents.wait_ready(lab, names)
    lab.save()


def node_cidrs(lab: Lab) -> list[list[str]]:
    """Pod CIDRs of the Nodes, as a controller manager gives them; none unless IPAM wants them."""
    if lab.config.get("ipam") != "kubernetes":
        return [[] for _ in lab.nodes]
    pools = [BlockPool([ip_network(POOL4)], 24), BlockPool([ip_network(POOL6)], 64)]
    return [[str(pool.allocate()) for pool in pools] for _ in lab.nodes]


def node_object(node: LabNode, cidrs: Sequence[str] = ()) -> dict[str, Any]:
    """The Node that a kubelet would register, with its pod CIDRs."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": node_labels(node.name)},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)} if cidrs else {},
        "status": {
            "addresses": [
                *({"type": "InternalIP", "address": str(a)} for a in node.addresses),
                {"type": "Hostname", "address": node.name},
            ],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def node_labels(name: str) -> dict[str, str]:
    """The labels that every kubelet sets, as far as they mean something here."""
    return {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(
            os.uname().machine, os.uname().machine
        ),
    }


def namespace_object(name: str) -> dict[str, Any]:
    """A Namespace with the label that an API server adds."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
    }


def _mount_bpf() -> None:
    """Mount the BPF file system where the machine has not done so yet."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    if not any(fields[1] == str(BPF_DIR) and fields[2] == "bpf" for fields in mounts):
        run(["mount", "-t", "bpf", "bpf", str(BPF_DIR)])
