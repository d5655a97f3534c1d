"""What the ends of a probe may be: a pod, a node, the outside world, a service, an address."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from attrs import frozen

from axoneme.core.errors import LabError
from axoneme.core.lab import clients, underlay
from axoneme.core.lab.model import IPAddress, Lab, PodRecord
from axoneme.core.lab.paths import WORLD
from axoneme.core.lab.workloads import owner_of
from axoneme.core.model.objects import ClusterObject
from axoneme.core.store.sync import BlockingStore

DEFAULT_NAMESPACE = "default"
CLIENT = "client:"
"""What the names of outside clients begin with."""


@frozen
class Place:
    """One end of a probe."""

    name: str
    kind: str  # pod | node | world | client | service | address
    addresses: tuple[IPAddress, ...]
    netns: Path | None = None
    """Where a probe can start; ``None`` for a service or a bare address."""
    node: str = ""
    ports: tuple[tuple[int, str], ...] = ()
    """Port and protocol (TCP, UDP, SCTP) of what listens there, as far as it is declared."""

    senders: tuple[IPAddress, ...] = ()
    """More addresses that packets from here may bear: a node's router addresses."""

    def address(self, family: int) -> IPAddress | None:
        """The address of a family (4 or 6)."""
        return next((a for a in self.addresses if a.version == family), None)


def pod_place(record: PodRecord) -> Place:
    """A pod of the lab."""
    return Place(
        record.full_name, "pod", record.addresses, Path(record.netns), record.node, record.ports
    )


def source(lab: Lab, store: BlockingStore, text: str) -> Place:
    """Where a probe (or a command) runs: a pod, a node or the world."""
    place = _pod(lab, store, text) or _machine(lab, store, text)
    if place is None:
        raise LabError(f"{text}: no such pod or node in the lab", hint=_hint(lab, store, text))
    return place


def source_pod(lab: Lab, store: BlockingStore, text: str) -> Place:
    """A pod, by name or by the name of its workload."""
    place = _pod(lab, store, text)
    if place is None:
        raise LabError(f"{text}: no such pod in the lab", hint=_hint(lab, store, text))
    return place


def target(lab: Lab, store: BlockingStore, text: str) -> Place:
    """What a probe is aimed at."""
    try:
        address = ip_address(text)
    except ValueError:
        pass
    else:
        return Place(text, "address", (address,))
    place = (
        _exact_pod(lab, text)
        or _service(store, text)
        or _machine(lab, store, text)
        or _pod(lab, store, text)
    )
    if place is None:
        raise LabError(
            f"{text}: no such pod, service, node or address", hint=_hint(lab, store, text)
        )
    return place


def _hint(lab: Lab, store: BlockingStore, text: str) -> str:
    """Why a pod is not there: it did not start, or it is in another namespace."""
    namespace, name = split(text)
    pods = store.list("Pod")
    waiting = [o for o in pods if (o.key.namespace, o.key.name) == (namespace, name)]
    if waiting or _owned(pods, namespace, name):
        return "the pod has not started: `axoneme lab pods` says why"
    found = sorted(r.full_name for r in lab.pods() if r.name == name)
    return f"did you mean {found[0]}?" if found else "see `axoneme lab pods`"


def split(text: str) -> tuple[str, str]:
    """``NS/NAME``; without a namespace the default one."""
    namespace, slash, name = text.partition("/")
    return (namespace, name) if slash else (DEFAULT_NAMESPACE, text)


def _exact_pod(lab: Lab, text: str) -> Place | None:
    wanted = split(text)
    for record in lab.pods():
        if (record.namespace, record.name) == wanted:
            return pod_place(record)
    return None


def _pod(lab: Lab, store: BlockingStore, text: str) -> Place | None:
    """A pod by its name, or the first pod of the workload of that name."""
    exact = _exact_pod(lab, text)
    if exact is not None:
        return exact
    namespace, name = split(text)
    records = {(r.namespace, r.name): r for r in lab.pods()}
    for obj in _owned(store.list("Pod"), namespace, name):
        record = records.get((obj.key.namespace, obj.key.name))
        if record is not None:
            return pod_place(record)
    return None


def _owned(objects: Iterable[ClusterObject], namespace: str, name: str) -> list[ClusterObject]:
    mine = [
        o
        for o in objects
        if o.key.namespace == namespace and (owner_of(o) or "").partition("/")[2] == name
    ]
    return sorted(mine, key=lambda o: o.key)


def _machine(lab: Lab, store: BlockingStore, text: str) -> Place | None:
    if text.startswith(CLIENT):
        name = text.removeprefix(CLIENT)
        found = clients.addresses(lab, name)
        return Place(text, "client", found, lab.paths.netns(clients.place_of(name)))
    if text == WORLD:
        addresses = (underlay.WORLD4, underlay.WORLD6)
        gateways = (underlay.GATEWAY4, underlay.GATEWAY6)  # its addresses between the nodes
        return Place(WORLD, "world", addresses, lab.paths.netns(WORLD), senders=gateways)
    for node in lab.nodes:
        if node.name == text:
            netns, more = lab.paths.netns(text), _routers(store, text)
            return Place(text, "node", node.addresses, netns, text, senders=more)
    return None


def _routers(store: BlockingStore, node: str) -> tuple[IPAddress, ...]:
    """What a node's agent has written into its CiliumNode beside the node's own addresses."""
    for obj in store.list("CiliumNode"):
        if obj.key.name == node:
            found = obj.spec.get("addresses") or ()
            return tuple(ip_address(a["ip"]) for a in found if a.get("type") == "CiliumInternalIP")
    return ()


def _service(store: BlockingStore, text: str) -> Place | None:
    namespace, name = split(text)
    for obj in store.list("Service"):
        if (obj.key.namespace, obj.key.name) != (namespace, name):
            continue
        ips = obj.spec.get("clusterIPs") or [obj.spec.get("clusterIP")]
        addresses = tuple(ip_address(ip) for ip in ips if ip and ip != "None")
        ports = tuple(
            (int(p["port"]), str(p.get("protocol", "TCP"))) for p in obj.spec.get("ports") or ()
        )
        if not addresses:
            raise LabError(f"service {namespace}/{name} has no cluster IP to probe")
        return Place(f"{namespace}/{name}", "service", addresses, ports=ports)
    return None
