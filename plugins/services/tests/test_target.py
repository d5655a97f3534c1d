"""Rows on real maps: incremental equals a full pass, a full map refuses and keeps the rest."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axoneme.bpf.registration import PROGRAMS
from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.errors import ExhaustedError
from axoneme.core.model.balancing import (
    Backend,
    Frontend,
    FrontendKey,
    Kind,
    PortKey,
    ServicePort,
)
from axoneme.core.testing.packets import PacketBench
from axoneme.plugins.services import config, datapath, kernel
from axoneme.plugins.services.target import BalancingTarget, Tables

pytestmark = pytest.mark.root

SIZES = {"axo_lb_flows": 64, "axo_lb_affinity": 64, "axo_lb_dsr": 64, "axo_lb_maglev": 64,
         "axo_lb_frontends": 40, "axo_nat4": 64, "axo_nat6": 64}  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Iterator[tuple[PacketBench, dict[str, int]]]:
    """Small maps."""
    options = OptionRegistry()
    core_options.register(options)
    config.register(options)
    registry = DatapathRegistry()
    for name in ("from_container", "to_container"):
        registry.program(name, PROGRAMS / "container.bpf.c", "tc")
    datapath.register(registry, Config.load(options, {}))
    registry.map_sizes.clear()
    with PacketBench(registry, sizes=SIZES) as made:
        yield made, registry.alternatives["lb_select"]


def target(bench: tuple[PacketBench, dict[str, int]], gone: Any = None) -> BalancingTarget:
    """An empty one."""
    maps = bench[0].maps

    def typed(name: str) -> TypedMap[Any, Any]:
        return TypedMap(maps[name], *kernel.MODELS[name])

    made = BalancingTarget(
        maps, kernel.Encoder(typed, bench[1]), Tables(maps[kernel.MAGLEV], 16381, b"x" * 12), gone
    )
    made.resync({})
    return made


def contents(bench: tuple[PacketBench, dict[str, int]]) -> dict[str, Any]:
    """All maps."""
    found: dict[str, Any] = {n: dict(bench[0].maps[n].items()) for n in kernel.ORDER}
    found[kernel.MAGLEV] = sorted(bench[0].maps[kernel.MAGLEV].keys())
    return found


def row(
    number: int,
    backends: list[int],
    *,
    kind: int = 3,
    algorithm: str = "random",
    affinity: int = 0,
    address: int = 1,
) -> ServicePort:
    """A row; backends are shared by number."""  # fmt: skip
    every = tuple(
        Backend(ip_address(f"10.0.0.{b}"), 80, 6, id=b, local=b % 2 == 0) for b in backends
    )
    key = FrontendKey(ip_address(f"10.96.0.{address}"), 1000 + number, 6, 4)
    return ServicePort(
        key=PortKey("default", f"s{number}", "http", 6, 4),
        frontends=(Frontend(key, Kind(kind), id=100 + number),),
        backends=every,
        chosen=every,
        chosen_local=tuple(b for b in every if b.local),
        affinity_seconds=affinity,
        algorithm=algorithm,
        number=number,
    )


ROWS = st.builds(
    row,
    st.integers(1, 4),
    st.lists(st.integers(1, 6), unique=True, max_size=4),
    kind=st.sampled_from([1, 3]),
    algorithm=st.sampled_from(["random", "maglev"]),
    affinity=st.sampled_from([0, 60]),
    address=st.integers(1, 2),
)
CHANGES = st.lists(st.one_of(ROWS, st.integers(1, 4)), max_size=10)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(CHANGES)
def test_changes_lead_where_a_full_pass_leads(
    bench: tuple[PacketBench, dict[str, int]], changes: list[ServicePort | int]
) -> None:
    """Whatever was there before, shared backends and addresses included."""
    one = target(bench)
    rows: dict[PortKey, ServicePort] = {}
    for change in changes:
        if isinstance(change, int):
            old = next((r for r in rows.values() if r.number == change), None)
            if old is not None:
                del rows[old.key]
                assert not one.apply({}, {old.key: old})
        else:
            rows[change.key] = change
            assert not one.apply({change.key: change}, {})
    there = contents(bench)
    fresh = target(bench)
    fresh.resync(rows)
    assert contents(bench) == there


def test_a_full_map_refuses_new_services_and_keeps_the_old(
    bench: tuple[PacketBench, dict[str, int]],
) -> None:
    """By row, with the map's name; there is room again when something goes."""
    one = target(bench)
    rows = {r.key: r for r in (row(n, [1], kind=1) for n in range(1, 60))}
    failed = one.apply(rows, {})
    assert len(failed) == 59 - 40
    assert all(isinstance(e, ExhaustedError) for e in failed.values())
    assert "axo_lb_frontends is full" in str(next(iter(failed.values())))
    served = [r for k, r in rows.items() if k not in failed]
    assert len(dict(bench[0].maps[kernel.FRONTENDS].items())) == 40
    one.apply({}, {served[0].key: served[0]})
    key, waiting = next((k, rows[k]) for k in failed)
    assert not one.apply({key: waiting}, {})


def test_who_leaves_the_kernel_is_told_once(bench: tuple[PacketBench, dict[str, int]]) -> None:
    """When the last row that names a backend is gone."""
    told: list[str] = []
    one = target(bench, lambda gone: told.extend(str(b.address) for b in gone))
    told.clear()  # what another test has left
    first, second = row(1, [1, 2]), row(2, [2])
    one.apply({first.key: first, second.key: second}, {})
    less = evolve(first, backends=(), chosen=(), chosen_local=())
    one.apply({first.key: less}, {})
    assert told == ["10.0.0.1"]
    one.apply({}, {second.key: second})
    assert told == ["10.0.0.1", "10.0.0.2"]
