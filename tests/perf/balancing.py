"""P6, P12: services by thousands: programming them; Maglev's moves."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from axoneme.core.cli.process import calm_collector
from axoneme.core.datapath import compose
from axoneme.core.datapath.loader import load_text
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.model.balancing import PortKey, ServicePort
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import Table
from axoneme.plugins.services import kernel, maglev
from axoneme.plugins.services.compute import NodeView
from axoneme.plugins.services.config import ServiceSettings
from axoneme.plugins.services.decode import decode_service, decode_slice
from axoneme.plugins.services.manager import ServiceManager
from axoneme.plugins.services.rows import Service, Slice
from axoneme.plugins.services.target import BalancingTarget, Tables
from tests.perf.measure import Result, Sample
from tests.services.kit import container_with_services, options_of

Note = Callable[[str], None]

SERVICES: Final = 10_000
BACKENDS: Final = 10
ROOM: Final = 1 << 18


def service(number: int) -> ClusterObject:
    """A service as the API server has it."""
    key = ObjectKey("Service", "default", f"s{number}")
    address = str(ip_address("10.96.0.0") + number + 1)
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": [{"name": "http", "port": 80}]}
    return ClusterObject(key, "v1", uid=str(number), body={"spec": spec})


def piece(number: int, shift: int = 0) -> ClusterObject:
    """Its EndpointSlice; ``shift`` changes the last backend."""
    first = int(ip_address("10.0.0.0")) + number * BACKENDS
    ends = [
        {
            "addresses": [str(ip_address(first + n + (shift if n == BACKENDS - 1 else 0)))],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node{n % 3}",
        }
        for n in range(BACKENDS)
    ]
    body = {"addressType": "IPv4", "endpoints": ends, "ports": [{"name": "http", "port": 8080}]}
    key = ObjectKey("EndpointSlice", "default", f"s{number}-1")
    labels = {"kubernetes.io/service-name": f"s{number}"}
    return ClusterObject(key, "discovery.k8s.io/v1", labels=labels, body=body)


class Agent:
    """What an agent has for services, on maps of its own."""

    def __init__(self, target: BalancingTarget) -> None:
        self.services: Table[Any, Service] = Table("services", Service, lambda r: r.name)
        self.slices: Table[Any, Slice] = Table(
            "service_slices", Slice, lambda r: r.name, indexes={"service": lambda r: [r.service]}
        )
        self.ports: Table[PortKey, ServicePort] = Table(
            "service_ports", ServicePort, lambda r: r.key
        )
        settings = ServiceSettings.from_config(options_of(kube_proxy_replacement="true"))
        self.manager = ServiceManager(
            self.services, self.slices, self.ports, settings, lambda: ["random", "maglev"]
        )
        self.manager.node = NodeView("node0")
        self._watch = self.ports.watch()
        self.target = target

    def flush(self) -> None:
        """From rows to the maps."""
        self.services.flush()
        self.slices.flush()
        self.manager.flush()
        self.ports.flush()
        changes = self._watch.take()
        assert not self.target.apply(dict(changes.upserted), dict(changes.deleted))


@contextmanager
def agent() -> Iterator[Agent]:
    """Real maps with room for all of it."""
    registry = container_with_services(kube_proxy_replacement="true")
    unit = next(u for u in compose.units(registry) if u.name == "container")
    sizes = dict.fromkeys(kernel.MODELS, ROOM)
    sizes |= {"axo_lb_flows": 1024, "axo_lb_maglev": 64, kernel.AFFINITY: 1024}
    small = dict.fromkeys(("axo_ct4", "axo_ct6", "axo_ct_any4", "axo_ct_any6"), 1024)
    text = compose.compose(registry, unit).text
    with load_text(text, sizes={**sizes, **small}, name="container") as loaded:

        def typed(name: str) -> TypedMap[Any, Any]:
            return TypedMap(loaded.maps[name], *kernel.MODELS[name])

        numbers = registry.alternatives["lb_select"]
        tables = Tables(loaded.maps[kernel.MAGLEV], 251, bytes(12))
        yield Agent(BalancingTarget(loaded.maps, kernel.Encoder(typed, numbers), tables))


def programming(repetitions: int, note: Note) -> Iterator[Result]:
    """P6: all at once, then one backend of one service."""
    full, decoding, change = [], [], []
    calm_collector()
    for number in range(repetitions):
        objects = [(service(n), piece(n)) for n in range(SERVICES)]
        with agent() as one:
            gc.collect()
            began = time.perf_counter()
            rows = [(decode_service(s), decode_slice(e)) for s, e in objects]
            decoded = time.perf_counter()
            for first, second in rows:
                one.services.upsert(first)
                assert second is not None
                one.slices.upsert(second)
            one.flush()
            ended = time.perf_counter()
            decoding.append(decoded - began)
            full.append(ended - decoded)
            for which in range(20):
                row = decode_slice(piece(which * 499, shift=5_000_000))
                assert row is not None
                began = time.perf_counter()
                one.slices.upsert(row)
                one.flush()
                change.append(1000 * (time.perf_counter() - began))
        note(f"P6 {number + 1}: {full[-1]:.2f} s, decoding {decoding[-1]:.2f} s")
    size = f"{SERVICES:,} services x {BACKENDS}"
    yield _one("P6", f"{size}: rows to maps", "s", full, "≤ 2", 2)
    yield _one("P6", f"{size}: decoding", "s", decoding, "-", None)
    yield _one("P6", f"{size}: one backend changes", "ms", change, "≤ 20", 20)


def moves(size: int, backends: int = 100) -> tuple[float, float]:
    """P12: share of other rows that move when one backend goes, in percent; ms for a table."""
    names = [f"10.0.0.{n}:80".encode() for n in range(backends)]
    began = time.perf_counter()
    before = maglev.table(names, size, b"0" * 12)
    cost = 1000 * (time.perf_counter() - began)
    shares = []
    for gone in range(0, backends, 10):
        left = names[:gone] + names[gone + 1 :]
        after = maglev.table(left, size, b"0" * 12)
        kept = [i for i in range(size) if before[i] != gone]
        moved = sum(left[after[i]] != names[before[i]] for i in kept)
        shares.append(100 * moved / len(kept))
    return statistics.median(shares), cost


def consistency(note: Note) -> Iterator[Result]:
    """P12 for the sizes that matter."""
    for size in (16381, 32749, 65521, 131071):
        share, cost = moves(size)
        note(f"P12 {size}: {share:.2f} %, {cost:.0f} ms a table")
        what = f"Maglev, 100 backends, one gone, {size} rows: others that move"
        yield _one("P12", what, "%", [share], "≤ 1", 1)


def _one(
    number: str, what: str, unit: str, values: list[float], target: str, limit: float | None
) -> Result:
    sample = Sample(tuple(values))
    met = None if limit is None else sample.median <= limit
    return Result(number, what, unit, sample, None, target, met)


def bench(folder: Path, repetitions: int, note: Note, wanted: set[str]) -> Iterator[Result]:
    """Run what is wanted."""
    if "P6" in wanted:
        yield from programming(repetitions, note)
    if "P12" in wanted:
        yield from consistency(note)
