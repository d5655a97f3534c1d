"""Random changes: what the kernel is told is what a fresh computation says, and numbers stay."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from axoneme.core.endpoints.pods import HostPort, Pod
from axoneme.core.model.balancing import FrontendKey, PortKey, ServicePort
from axoneme.core.state import Table
from axoneme.plugins.services import hostports
from axoneme.plugins.services.compute import NodeView
from axoneme.plugins.services.manager import ServiceManager
from axoneme.plugins.services.numbers import Numbers
from axoneme.plugins.services.rows import Endpoint, Port, Service, Slice
from axoneme.plugins.services.tests.test_compute import NODE, SETTINGS


def manager() -> ServiceManager:
    """An empty one."""
    services: Table[Any, Service] = Table("services", Service, lambda r: r.name)
    slices: Table[Any, Slice] = Table(
        "service_slices", Slice, lambda r: r.name, indexes={"service": lambda r: [r.service]}
    )
    ports: Table[PortKey, ServicePort] = Table("service_ports", ServicePort, lambda r: r.key)
    made = ServiceManager(services, slices, ports, SETTINGS, lambda: ["random", "maglev"])
    made.node = NODE
    return made


def apply(made: ServiceManager) -> dict[PortKey, ServicePort]:
    """Compute; the rows."""
    made.services.flush()
    made.slices.flush()
    made.flush()
    return dict(made.ports.items())


def bare(row: ServicePort) -> ServicePort:
    """Without numbers."""

    def plain(backends: Any) -> Any:
        return tuple(evolve(b, id=0) for b in backends)

    return evolve(
        row,
        number=0,
        frontends=tuple(evolve(f, id=0) for f in row.frontends),
        backends=plain(row.backends),
        chosen=plain(row.chosen),
        chosen_local=plain(row.chosen_local),
    )


def web(name: int, address: int, created: int, ports: int = 1) -> Service:
    """A service; few addresses, so that they clash."""
    return Service(
        name=("default", f"s{name}"),
        created=str(created),
        type="NodePort",
        cluster_ips=(ip_address(f"10.96.0.{address}"),),
        ports=tuple(Port(f"p{n}", 80 + n, 6, 30000 + n) for n in range(ports)),
    )


def piece(name: int, service: int, ends: list[int], ports: int = 2) -> Slice:
    """A slice of a service."""
    return Slice(
        ("default", f"e{name}"),
        ("default", f"s{service}"),
        tuple((f"p{n}", 6, 8080) for n in range(ports)),
        tuple(Endpoint((ip_address(f"10.0.0.{e}"),), node=f"n{e % 3}") for e in ends),
    )


SMALL = st.integers(1, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("service"), SMALL, SMALL, SMALL, SMALL),
        st.tuples(st.just("gone"), SMALL),
        st.tuples(st.just("slice"), SMALL, SMALL, st.lists(st.integers(1, 6), max_size=4)),
        st.tuples(st.just("sliced"), SMALL),
        st.tuples(st.just("node"), st.sampled_from(["n0", "n1", "n2"])),
    ),
    max_size=12,
)


def step(made: ServiceManager, what: Any) -> None:
    """One change."""
    match what:
        case ("service", name, address, created, ports):
            made.services.upsert(web(name, address, created, ports))
        case ("gone", name):
            made.services.delete(("default", f"s{name}"))
        case ("slice", name, service, ends):
            made.slices.upsert(piece(name, service, ends))
        case ("sliced", name):
            made.slices.delete(("default", f"e{name}"))
        case ("node", name):
            made.set_node(evolve(NODE, name=name))


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_changes_lead_where_a_fresh_start_leads(steps: Any) -> None:
    """After each change; and no number stands for two things."""
    made = manager()
    for what in steps:
        step(made, what)
        rows = apply(made)
        fresh = manager()
        fresh.node = made.node
        for service in made.services:
            fresh.services.upsert(service)
        for each in made.slices:
            fresh.slices.upsert(each)
        wanted = apply(fresh)
        assert {k: bare(r) for k, r in rows.items()} == {k: bare(r) for k, r in wanted.items()}
        ids = [f.id for r in rows.values() for f in r.frontends]
        assert len(ids) == len(set(ids))
        keys = [f.key for r in rows.values() for f in r.frontends]
        assert len(keys) == len(set(keys))
        known: dict[int, Any] = {}
        for row in rows.values():
            for b in row.backends:
                assert known.setdefault(b.id, (b.address, b.port)) == (b.address, b.port)
        assert set(made.backend_numbers.by_key.values()) == set(known)
        assert made.conflicts == fresh.conflicts


def test_a_new_agent_takes_over_the_numbers() -> None:
    """Flows in the kernel hold them."""
    old = manager()
    for n in (3, 1, 2):
        old.services.upsert(web(n, n, n))
        old.slices.upsert(piece(n, n, [n, n + 1]))
        apply(old)
    rows = dict(old.ports.items())
    new = manager()
    new.adopt(
        {f.key: (f.id, r.number) for r in rows.values() for f in r.frontends},
        dict(old.backend_numbers.by_key),
    )
    for n in (1, 2, 3):
        new.services.upsert(web(n, n, n))
        new.slices.upsert(piece(n, n, [n, n + 1]))
    assert apply(new) == rows
    new.finish_adoption()
    assert new.frontend_numbers.by_key == old.frontend_numbers.by_key


def test_the_older_service_keeps_its_frontend() -> None:
    """The younger one is told, and gets it when it is free."""
    made = manager()
    made.node = NodeView("n1")
    made.services.upsert(web(1, 1, 2))
    made.services.upsert(web(2, 1, 1))
    rows = apply(made)
    owners = {f.key: r.key.service for r in rows.values() for f in r.frontends}
    key = FrontendKey(ip_address("10.96.0.1"), 80, 6, 4)
    assert owners[key] == "s2"
    assert made.conflicts == {("default", "s1"): {key: ("default", "s2"),
                                                  FrontendKey(None, 30000, 6, 4):
                                                  ("default", "s2")}}  # fmt: skip
    made.services.delete(("default", "s2"))
    rows = apply(made)
    assert key in {f.key for r in rows.values() for f in r.frontends}
    assert not made.conflicts


def test_numbers_come_back_late() -> None:
    """What was given back is not the next."""
    numbers: Numbers[str] = Numbers("things", last=3)
    assert [numbers.get(k) for k in "ab"] == [1, 2]
    numbers.release("a")
    assert numbers.get("c") == 3
    assert numbers.get("d") == 1


def test_host_ports_are_services_of_their_own() -> None:
    """On every address of the node or the one that is named; a Service's frontend stays its own."""
    pod = Pod("default", "web", "u", "n1", host_ports=(
        HostPort(8080, 80), HostPort(8081, 81, "UDP", "172.18.0.2"), HostPort(30000, 80),
    ))  # fmt: skip

    @frozen
    class Addresses:
        ipv4 = ip_address("10.0.0.9")
        ipv6 = None

    made = manager()
    made.services.upsert(web(1, 1, 1))
    rows = hostports.rows(pod, Addresses(), "n1", NODE.addresses)  # type: ignore[arg-type]
    made.offer("hostport", "default/web", rows)
    found = {(str(f.key.address), f.key.port, f.key.proto): r.key.service
             for r in apply(made).values() for f in r.frontends}  # fmt: skip
    assert found["172.18.0.2", 8080, 6] == "web"
    assert found["None", 8080, 6] == "web"
    assert found["172.18.0.2", 8081, 17] == "web"
    assert ("None", 8081, 17) not in found
    assert found["172.18.0.2", 30000, 6] == "s1"
    made.offer("hostport", "default/web", ())
    assert all(r.key.service == "s1" for r in apply(made).values())
    assert not made.backend_numbers.by_key
