"""Wiring: which hook calls what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from axoneme.hooks import API_VERSION as CURRENT
from axoneme.hooks import hookimpl
from axoneme_lb_weighted.weights import MOST, Weights, weights
from axoneme_lb_weighted.weights import NAME as ALGORITHM

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.reconcile.maps import MapTarget

NAME = "lb-weighted"
API_VERSION = CURRENT
REQUIRES = ("services",)
SUMMARY = "load balancing by weight of node"

SOURCE = Path(__file__).parent / "weighted.bpf.c"
MAP = "axo_weighted"


@frozen
class Key:
    """``struct weighted_key``."""

    set: int


@frozen
class Sums:
    """``struct weighted_sums``."""

    count: int
    sum: tuple[int, ...]


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Wherever services are."""
    on = bool(config["kube-proxy-replacement"])
    return on, f"kube-proxy-replacement={str(on).lower()}"


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry) -> None:
    """One more way to choose a backend, known by its name."""
    datapath.alternative("lb_select", ALGORITHM, "weighted_lb_select", SOURCE)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Weights follow the services."""
    from axoneme.core.reconcile.reconciler import Reconciler

    table = agent.tables.create("lb_weighted", Weights, key=lambda row: row.set)
    ports = agent.tables["service_ports"]
    ports.subscribe(lambda _: table.replace(weights(ports.rows())))
    agent.add_reconciler(Reconciler("lb_weighted", table, Target(agent)))


class Target:
    """The core's target for maps, opened when maps are."""

    name = MAP

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._made: MapTarget[int, Weights] | None = None

    def apply(
        self, upserts: Mapping[int, Weights], deletes: Mapping[int, Weights]
    ) -> Mapping[int, Exception]:
        """What has changed."""
        return self._target().apply(upserts, deletes)

    def resync(self, desired: Mapping[int, Weights]) -> Mapping[int, Exception]:
        """Everything."""
        return self._target().resync(desired)

    def _target(self) -> MapTarget[int, Weights]:
        from axoneme.core.reconcile.maps import MapTarget

        if self._made is None:
            typed = self._agent.datapath.typed(MAP, Key, Sums)
            self._made = MapTarget(MAP, typed, encode)
        return self._made


def encode(row: Weights) -> tuple[Any, Any]:
    """An entry of the map."""
    padded = row.sums + (0,) * (MOST - len(row.sums))
    return Key(row.set), Sums(len(row.sums), padded)
