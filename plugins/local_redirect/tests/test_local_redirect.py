"""What policies mean, and that they never reach another namespace."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from axoneme.core.endpoints.pods import Pod
from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.balancing import Kind
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.plugins.local_redirect.compute import address_rows, local_addresses, redirects
from axoneme.plugins.local_redirect.policies import KIND, RedirectPolicy, decode_policy

BACK = {
    "localEndpointSelector": {"matchLabels": {"app": "cache"}},
    "toPorts": [{"port": "5353", "protocol": "UDP"}],
}
SERVICE = {"serviceMatcher": {"serviceName": "dns", "namespace": "default"}}
ADDRESS = {
    "addressMatcher": {"ip": "169.254.20.10", "toPorts": [{"port": "53", "protocol": "UDP"}]}
}


@frozen
class Port:
    """Of a service."""

    name: str
    port: int
    proto: int


@frozen
class Endpoint:
    """Of this node."""

    namespace: str
    pod: str
    ipv4: Any
    ipv6: Any = None


PODS = [
    Pod("default", "a", "1", "n", labels=(("app", "cache"),)),
    Pod("default", "b", "2", "n", labels=(("app", "web"),)),
    Pod("other", "c", "3", "n", labels=(("app", "cache"),)),
]
ENDPOINTS = [
    Endpoint(p.namespace, p.name, ip_address(f"10.0.0.{i}")) for i, p in enumerate(PODS, 1)
]


def policy(
    front: Any = None, back: Any = None, namespace: str = "default", **more: Any
) -> RedirectPolicy:
    """A policy."""
    spec = {"redirectFrontend": front or SERVICE, "redirectBackend": back or BACK, **more}
    return decode_policy(
        ClusterObject(ObjectKey(KIND, namespace, "one"), "cilium.io/v2", body={"spec": spec})
    )


def test_a_service_goes_to_the_pods_that_are_here() -> None:
    """Of the policy's namespace, selected, for the ports that fit."""
    one = policy()
    addresses = local_addresses(one, PODS, ENDPOINTS)
    assert [str(a) for a in addresses] == ["10.0.0.1"]
    rows = list(redirects(one, [Port("dns", 53, 17), Port("tcp", 53, 6)], addresses))
    assert [(r.service, r.port, r.backends) for r in rows] == [
        (("default", "dns"), "dns", ((ip_address("10.0.0.1"), 5353),))
    ]
    assert not list(redirects(one, [Port("dns", 53, 17)], []))


def test_ports_can_be_chosen_and_named() -> None:
    """Several ports go by name."""
    fronts = [{"port": "53", "protocol": "UDP", "name": "u"},
              {"port": "53", "protocol": "TCP", "name": "t"}]  # fmt: skip
    backs = [{"port": "1", "protocol": "UDP", "name": "u"},
             {"port": "2", "protocol": "TCP", "name": "t"}]  # fmt: skip
    one = policy(
        {"serviceMatcher": {**SERVICE["serviceMatcher"], "toPorts": fronts}},
        {**BACK, "toPorts": backs},
    )
    ports = [Port("u", 53, 17), Port("t", 53, 6), Port("x", 9, 6)]
    rows = list(redirects(one, ports, [ip_address("10.0.0.1")]))
    assert {r.port: r.backends[0][1] for r in rows} == {"u": 1, "t": 2}


def test_an_address_is_a_frontend_of_its_own() -> None:
    """For who is inside, where a pod is here."""
    one = policy(ADDRESS)
    [row] = address_rows(one, [ip_address("10.0.0.1"), ip_address("fd00::1")])
    [front] = row.frontends
    assert (str(front.key.address), front.key.port, front.kind) == (
        "169.254.20.10", 53, Kind.LOCAL_REDIRECT,
    )  # fmt: skip
    assert [str(b.address) for b in row.backends] == ["10.0.0.1"]
    assert not address_rows(one, [])


@pytest.mark.parametrize(
    ("front", "back", "path"),
    [
        ({"serviceMatcher": {"serviceName": "dns", "namespace": "kube-system"}}, BACK,
         "spec.redirectFrontend.serviceMatcher.namespace"),
        ({"serviceMatcher": {"serviceName": "dns"}}, BACK,
         "spec.redirectFrontend.serviceMatcher.namespace"),
        ({"serviceMatcher": {"namespace": "default"}}, BACK,
         "spec.redirectFrontend.serviceMatcher.serviceName"),
        ({}, BACK, "spec.redirectFrontend"),
        ({**SERVICE, **ADDRESS}, BACK, "spec.redirectFrontend"),
        ({"addressMatcher": {"ip": "x", "toPorts": []}}, BACK,
         "spec.redirectFrontend.addressMatcher.ip"),
        ({"addressMatcher": {"ip": "1.2.3.4", "toPorts": []}}, BACK,
         "spec.redirectFrontend.addressMatcher.toPorts"),
        (SERVICE, {"localEndpointSelector": {}}, "spec.redirectBackend.toPorts"),
        (SERVICE, {**BACK, "toPorts": [{"port": "0", "protocol": "UDP"}]},
         "spec.redirectBackend.toPorts[0].port"),
        (SERVICE, {**BACK, "toPorts": [{"port": "1", "protocol": "SCTP"}]},
         "spec.redirectBackend.toPorts[0].protocol"),
    ],
)  # fmt: skip
def test_a_bad_policy_names_its_field(front: Any, back: Any, path: str) -> None:
    """And its object."""
    with pytest.raises(InvalidObjectError, match=f"{KIND} default/one") as caught:
        policy(front or {"none": 1}, back)
    assert path in str(caught.value)


def test_addresses_can_be_restricted() -> None:
    """lrp-address-matcher-cidrs."""
    spec = {"redirectFrontend": ADDRESS, "redirectBackend": BACK}
    obj = ClusterObject(ObjectKey(KIND, "default", "one"), "cilium.io/v2", body={"spec": spec})
    decode_policy(obj, [ip_network("169.254.0.0/16")])
    with pytest.raises(InvalidObjectError, match="lrp-address-matcher-cidrs"):
        decode_policy(obj, [ip_network("10.0.0.0/8")])


NAMES = st.sampled_from(["default", "other", "kube-system"])


@given(NAMES, NAMES, st.lists(st.tuples(NAMES, st.booleans()), max_size=6))
def test_no_policy_reaches_another_namespace(
    own: str, named: str, pods: list[tuple[str, bool]]
) -> None:
    """Neither its services nor its pods."""
    front = {"serviceMatcher": {"serviceName": "dns", "namespace": named}}
    try:
        one = policy(front, namespace=own)
    except InvalidObjectError:
        assert named != own
        return
    assert named == own
    made = [
        Pod(ns, f"p{i}", str(i), "n", labels=(("app", "cache"),) if fits else ())
        for i, (ns, fits) in enumerate(pods)
    ]
    ends = [Endpoint(p.namespace, p.name, (p.namespace, p.name)) for p in made]
    addresses: Any = local_addresses(one, made, ends)
    assert all(namespace == own for namespace, _ in addresses)
    assert all(r.service[0] == own for r in redirects(one, [Port("", 53, 17)], addresses))
