"""What users write becomes rows, or an error that names the field."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from attrs import evolve

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.plugins.services.decode import decode_service, decode_slice, is_served
from axoneme.plugins.services.rows import Endpoint, Port


def obj(kind: str, labels: dict[str, str] | None = None, **body: Any) -> ClusterObject:
    """An object named default/web."""
    key = ObjectKey(kind, "default", "web")
    return ClusterObject(key, "v1", labels=labels or {}, body=body)


def service(**spec: Any) -> ClusterObject:
    """A service with a cluster IP and a port."""
    return obj("Service", spec={"clusterIP": "10.96.0.1", "ports": [{"port": 80}], **spec})


def test_defaults_are_kubernetes() -> None:
    """A port is TCP, policies are Cluster, there is no affinity."""
    row = decode_service(service())
    assert row.ports == (Port("", 80, 6, 0),)
    assert (row.type, row.local_in, row.local_out, row.affinity_seconds) == (
        "ClusterIP", False, False, 0,
    )  # fmt: skip
    assert row.families == (4,)


def test_everything_said_is_read() -> None:
    """Policies, affinity, ranges, addresses of load balancers."""
    one = service(
        type="LoadBalancer",
        clusterIPs=["10.96.0.1", "fd00::1"],
        externalIPs=["192.0.2.1"],
        externalTrafficPolicy="Local",
        internalTrafficPolicy="Local",
        healthCheckNodePort=31000,
        sessionAffinity="ClientIP",
        loadBalancerSourceRanges=["10.0.0.1/8"],
        ports=[{"name": "a", "port": 1, "protocol": "UDP", "nodePort": 30001}],
    )
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "x"},
                                           {"ip": "192.0.2.8", "ipMode": "Proxy"}]}}  # fmt: skip
    row = decode_service(evolve(one, body={**one.body, "status": status}))
    assert row.balancer_ips == (ip_address("192.0.2.9"),)
    assert (row.local_in, row.local_out, row.health_port) == (True, True, 31000)
    assert row.affinity_seconds == 10800
    assert [str(r) for r in row.ranges] == ["10.0.0.0/8"]
    assert row.ports == (Port("a", 1, 17, 30001),)
    assert row.families == (4, 6)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"type": "Wrong"}, "spec.type"),
        ({"clusterIP": "10.96.0"}, "spec.clusterIP"),
        ({"clusterIPs": ["10.96.0.1", 7]}, "spec.clusterIPs[1]"),
        ({"ports": 7}, "spec.ports"),
        ({"ports": [7]}, "spec.ports[0]"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port"),
        ({"ports": [{"port": True}]}, "spec.ports[0].port"),
        ({"ports": [{"port": 80, "protocol": "tcp"}]}, "spec.ports[0].protocol"),
        ({"ports": [{"port": 80, "nodePort": 70000}]}, "spec.ports[0].nodePort"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[1]"),
        ({"externalIPs": ["fe80::1%eth0"]}, "spec.externalIPs[0]"),
        ({"internalTrafficPolicy": "local"}, "spec.internalTrafficPolicy"),
        ({"sessionAffinity": "Cookie"}, "spec.sessionAffinity"),
        (
            {"sessionAffinity": "ClientIP",
             "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        ),
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/40"]},
            "spec.loadBalancerSourceRanges[0]",
        ),
    ],
)  # fmt: skip
def test_bad_text_names_its_field(spec: dict[str, Any], path: str) -> None:
    """The object and the field."""
    with pytest.raises(InvalidObjectError, match="Service default/web") as caught:
        decode_service(service(**spec))
    assert path in str(caught.value)


def test_some_services_are_not_ours() -> None:
    """Headless, ExternalName, and those of another proxy."""
    assert is_served(service(), "")
    assert not is_served(service(clusterIP="None"), "")
    assert not is_served(service(type="ExternalName"), "")
    proxied = {"service.kubernetes.io/service-proxy-name": "mine"}
    assert not is_served(obj("Service", proxied), "")
    assert is_served(obj("Service", proxied), "mine")


def test_a_slice_says_who_is_there() -> None:
    """Conditions that are not said are as Kubernetes takes them."""
    label = {"kubernetes.io/service-name": "web"}
    row = decode_slice(
        obj(
            "EndpointSlice", label, addressType="IPv4",
            ports=[{"name": "a", "port": 8080}, {"name": "none"}],
            endpoints=[
                {"addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "z",
                 "hints": {"forZones": [{"name": "z"}]}},
                {"addresses": ["10.0.0.2"],
                 "conditions": {"ready": False, "serving": True, "terminating": True}},
            ],
        )
    )  # fmt: skip
    assert row is not None
    assert row.ports == (("a", 6, 8080),)
    assert row.endpoints[0] == Endpoint(
        (ip_address("10.0.0.1"),), node="n1", zone="z", zones=("z",)
    )
    assert row.endpoints[1] == Endpoint((ip_address("10.0.0.2"),), False, True, True)
    assert decode_slice(obj("EndpointSlice", {}, addressType="IPv4")) is None
    assert decode_slice(obj("EndpointSlice", label, addressType="FQDN")) is None


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"endpoints": {}}, "endpoints"),
        ({"endpoints": [{"addresses": ["x"]}]}, "endpoints[0].addresses[0]"),
        ({"endpoints": [{"addresses": "10.0.0.1"}]}, "endpoints[0].addresses"),
        ({"endpoints": [{"addresses": [], "conditions": 1}]}, "endpoints[0].conditions"),
        ({"ports": [{"port": "http"}]}, "ports[0].port"),
        ({"endpoints": [{"addresses": []}] * 1001}, "endpoints"),
    ],
)
def test_a_bad_slice_names_its_field(body: dict[str, Any], path: str) -> None:
    """The same for slices."""
    label = {"kubernetes.io/service-name": "web"}
    with pytest.raises(InvalidObjectError, match="EndpointSlice default/web") as caught:
        decode_slice(obj("EndpointSlice", label, **body))
    assert path in str(caught.value)
