"""Who is behind a service on this node, who gets new flows, where it is reached."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from attrs import evolve

from axoneme.core.model.balancing import Flag, Kind, ServicePort, State
from axoneme.plugins.services.compute import NodeView, service_ports
from axoneme.plugins.services.config import ServiceSettings
from axoneme.plugins.services.rows import Endpoint, Port, Service, Slice

NODE = NodeView("n1", "east", (ip_address("172.18.0.2"), ip_address("fd00::2")))
SETTINGS = ServiceSettings(
    ipv4=True, ipv6=True, algorithm="random", algorithm_annotation=True, mode="snat",
    mode_annotation=True, external_cluster_ip=False, external_guard=True, ranges_for_all=False,
    topology=True, reject=True, proxy_name="", node_ports=(30000, 32767), table_size=251,
    seed=bytes(12),
)  # fmt: skip


def end(last: int, **more: Any) -> Endpoint:
    """An endpoint 10.0.0.LAST."""
    return Endpoint((ip_address(f"10.0.0.{last}"),), **more)


def compute(*endpoints: Endpoint, settings: ServiceSettings = SETTINGS, **more: Any) -> ServicePort:
    """The only row of a service with these endpoints."""
    given = {"name": ("default", "web"), "cluster_ips": (ip_address("10.96.0.1"),),
             "ports": (Port("", 80, 6),), **more}  # fmt: skip
    slices = [Slice(("default", "web-1"), ("default", "web"), (("", 6, 8080),), endpoints)]
    [row] = service_ports(Service(**given), slices, NODE, settings, ["random", "maglev"])
    return row


def chosen(row: ServicePort) -> list[str]:
    """Last parts of the addresses of who gets new flows."""
    return [str(b.address).rpartition(".")[2] for b in row.chosen]


def test_the_ready_are_chosen() -> None:
    """Those that are not ready are no backends; the terminating stay for their flows."""
    row = compute(
        end(1), end(2, ready=False, serving=False),
        end(3, ready=False, serving=True, terminating=True),
    )  # fmt: skip
    assert chosen(row) == ["1"]
    assert [b.state for b in row.backends] == [State.ACTIVE, State.TERMINATING]


def test_the_terminating_serve_when_there_is_nobody_else() -> None:
    """KEP-1669."""
    row = compute(
        end(1, ready=False, serving=True, terminating=True),
        end(2, ready=False, serving=False, terminating=True),
    )
    assert chosen(row) == ["1"]
    assert len(row.backends) == 2


def test_local_ones_are_a_set_of_their_own() -> None:
    """For the Local policies."""
    row = compute(end(1, node="n1"), end(2, node="n2"), local_in=True)
    assert chosen(row) == ["1", "2"]
    assert [str(b.address) for b in row.chosen_local] == ["10.0.0.1"]
    [front] = row.frontends
    assert front.local_in
    assert front.flags & Flag.LOCAL_IN


def test_hints_count_where_they_are_complete() -> None:
    """KEP-2433: none missing, and one of this zone."""
    near, far = end(1, zones=("east",)), end(2, zones=("west",))
    assert chosen(compute(near, far, topology=True)) == ["1"]
    assert chosen(compute(near, far)) == ["1", "2"]
    assert chosen(compute(near, end(2), topology=True)) == ["1", "2"]
    assert chosen(compute(far, topology=True)) == ["2"]
    off = evolve(SETTINGS, topology=False)
    assert chosen(compute(near, far, settings=off, topology=True)) == ["1", "2"]


def test_every_type_has_its_frontends() -> None:
    """Cluster IP, node port on each address and for sockets, load balancer, external."""
    row = compute(
        type="LoadBalancer",
        families=(4,),
        ports=(Port("", 80, 6, 30080),),
        balancer_ips=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
        external_ips=(ip_address("192.0.2.2"),),
        local_out=True,
        ranges=(ip_network("10.0.0.0/8"),),
    )
    found = {(str(f.key.address), f.key.port): f for f in row.frontends}
    assert {k: f.kind for k, f in found.items()} == {
        ("10.96.0.1", 80): Kind.CLUSTER_IP,
        ("192.0.2.1", 80): Kind.LOAD_BALANCER,
        ("192.0.2.2", 80): Kind.EXTERNAL_IPS,
        ("172.18.0.2", 30080): Kind.NODE_PORT,
        ("None", 30080): Kind.NODE_PORT,
    }
    assert found["10.96.0.1", 80].flags == Flag.CLUSTER_ONLY
    assert found["192.0.2.1", 80].flags == Flag.LOCAL_OUT | Flag.RANGES
    assert found["172.18.0.2", 30080].flags == Flag.LOCAL_OUT
    assert found["192.0.2.2", 80].flags == Flag.LOCAL_OUT | Flag.OUTSIDERS
    assert not found["10.96.0.1", 80].local_out


def test_annotations_choose() -> None:
    """Algorithm and mode, where the keys allow; unknown words change nothing."""
    said = (("service.cilium.io/forwarding-mode", "dsr"),
            ("service.cilium.io/lb-algorithm", "maglev"))  # fmt: skip
    row = compute(annotations=said)
    assert row.algorithm == "maglev"
    assert row.frontends[0].flags & Flag.DSR
    deaf = evolve(SETTINGS, algorithm_annotation=False, mode_annotation=False)
    row = compute(annotations=said, settings=deaf)
    assert row.algorithm == "random"
    assert not row.frontends[0].flags & Flag.DSR
    row = compute(annotations=(("service.cilium.io/lb-algorithm", "best"),))
    assert row.algorithm == "random"
    row = compute(annotations=(("service.cilium.io/type", "NodePort"),))
    assert row.frontends == ()


def test_hybrid_is_dsr_for_tcp() -> None:
    """And SNAT for the rest."""
    hybrid = evolve(SETTINGS, mode="hybrid")
    assert compute(settings=hybrid).frontends[0].flags & Flag.DSR
    udp = compute(settings=hybrid, ports=(Port("", 80, 17),))
    assert not udp.frontends[0].flags & Flag.DSR


def test_external_addresses_are_for_outsiders() -> None:
    """CVE-2020-8554: not for pods, unless the address is the node's or the key says so."""

    def flags(address: str, settings: ServiceSettings = SETTINGS) -> Flag:
        row = compute(cluster_ips=(), families=(4,), external_ips=(ip_address(address),),
                      settings=settings)  # fmt: skip
        return row.frontends[0].flags

    assert flags("8.8.8.8") & Flag.OUTSIDERS
    assert not flags("172.18.0.2") & Flag.OUTSIDERS
    assert not flags("8.8.8.8", evolve(SETTINGS, external_guard=False)) & Flag.OUTSIDERS
