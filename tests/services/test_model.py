"""Random changes of services and random packets, against a model of a few lines.

The model: a flow keeps its backend while that is there, if only for another service; a new one gets
a backend that is chosen now; a client with affinity comes back; answers bear the service's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.model.balancing import Backend, Kind, State
from axoneme.core.testing.packet_fixtures import *  # noqa: F403 - pytest finds fixtures by name
from axoneme.core.testing.packet_fixtures import Pod
from axoneme.core.testing.packets import OK, PacketBench
from tests.services.kit import SIZES, Balancer, backend, container_with_services, ends, service

pytestmark = pytest.mark.root

VIPS = ("10.96.0.1", "10.96.0.2")
BACKENDS = range(1, 6)


def address(number: int) -> str:
    """Of a backend, on another node."""
    return f"10.244.9.{number}"


@define
class Model:
    """What must be."""

    members: dict[int, dict[int, State]] = field(factory=lambda: {0: {}, 1: {}})
    """Service → backend → state."""
    affine: dict[int, bool] = field(factory=lambda: {0: False, 1: False})
    flows: dict[tuple[int, int], int] = field(factory=dict)
    """Service and client's port → backend."""
    last: dict[int, int] = field(factory=dict)
    """Service → backend that the client had last, with affinity."""
    made: set[int] = field(factory=set)

    def chosen(self, which: int) -> set[int]:
        """Who gets new flows."""
        return {n for n, s in self.members[which].items() if s is State.ACTIVE}

    def allowed(self, which: int, port: int) -> set[int]:
        """Where a packet of a flow may go."""
        had = self.flows.get((which, port))
        if had is not None and any(had in m for m in self.members.values()):
            return {had}
        fresh = self.chosen(which)
        if self.affine[which] and self.last.get(which) in fresh:
            return {self.last[which]}
        return fresh


@pytest.fixture(scope="session")
def packet_registry() -> DatapathRegistry:
    """Pods' programs with services."""
    return container_with_services()


@pytest.fixture(scope="session")
def shared_bench(packet_registry: DatapathRegistry) -> Iterator[PacketBench]:
    """Loaded once."""
    with PacketBench(packet_registry, sizes=SIZES) as loaded:
        yield loaded


WHICH = st.integers(0, 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), WHICH,
                  st.dictionaries(st.sampled_from(BACKENDS), st.sampled_from(State), max_size=4),
                  st.booleans()),
        st.tuples(st.just("packet"), WHICH, st.integers(2000, 2005)),
    ),
    min_size=4,
    max_size=25,
)  # fmt: skip


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_random_changes_and_packets(
    steps: Any,
    bench: PacketBench,
    packet_registry: DatapathRegistry,
    populate: Any,
    a: Pod,
    b: Pod,
) -> None:
    """After every step the program does what the model allows."""  # fmt: skip
    populate(bench, a, b)
    lb = Balancer(bench, packet_registry.alternatives["lb_select"])
    model = Model()
    for step in steps:
        if step[0] == "set":
            _, which, members, affine = step
            model.members[which], model.affine[which] = members, affine
            model.made.add(which)
            lb.put(row(which, members, affine=affine))
        else:
            send(lb, model, a, *step[1:])


def row(which: int, members: dict[int, State], *, affine: bool) -> Any:
    """The service as it is now."""
    every: list[Backend] = [
        evolve(backend(n, address(n), 8080), state=s) for n, s in sorted(members.items())
    ]
    seconds = 1000 if affine else 0
    front = [(VIPS[which], 80, Kind.CLUSTER_IP)]
    return service(which + 1, front, every, affinity_seconds=seconds)


def send(lb: Balancer, model: Model, a: Pod, which: int, port: int) -> None:
    """A packet of a flow that is neither opened nor closed, and the answer to it."""
    packet = a.tcp(4, VIPS[which], "A", sport=port)
    done = lb.bench.run("from_container", packet, ifindex=a.ifindex)
    allowed = model.allowed(which, port)
    if which not in model.made:  # a service that nobody has made is no service
        assert ends(Ether(done.data))[2] == VIPS[which]
        return
    if not allowed:
        assert done.drop == "NO_SERVICE"
        return
    assert done.verdict == OK, done.drop
    went = ends(Ether(done.data))
    number = int(went[2].rpartition(".")[2])
    assert number in allowed
    assert went[3] == 8080
    new = model.flows.get((which, port)) != number
    model.flows[which, port] = number
    if new and model.affine[which]:
        model.last[which] = number
    answer = a.frame(4, a, source=address(number)) / TCP(sport=8080, dport=port, flags="A")
    heard = lb.bench.run("to_container", answer, ifindex=a.ifindex)
    assert ends(Ether(heard.data)) == (VIPS[which], 80, a.ip4, port)
