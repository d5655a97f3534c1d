"""CIDR groups and Services in rules: whom they stand for, now and after each change."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.model.policy import Rule
from axoneme.core.state import TableRegistry
from axoneme.plugins.policy.references import References
from axoneme.plugins.policy.referents import (
    CidrGroup,
    ServiceRow,
    SliceRow,
    decode_group,
    decode_service,
    decode_slice,
    referent_tables,
)
from axoneme.plugins.policy.tests.test_decode_cilium import policy
from axoneme.plugins.policy.tests.world import decode
from axoneme.plugins.policy.texts import peer_text


class World:
    """References over tables of the test's own; ``changed`` collects what is told."""

    def __init__(self) -> None:
        self.groups, self.services, self.slices = referent_tables(TableRegistry())
        self.changed: list[ObjectKey] = []
        self.references = References(self.groups, self.services, self.slices, self._told)

    def _told(self, keys: Iterable[ObjectKey]) -> None:
        self.changed.extend(keys)

    def flush(self) -> list[ObjectKey]:
        """Objects that are to be resolved again after pending changes."""
        for table in (self.groups, self.services, self.slices):
            table.flush()
        told, self.changed = self.changed, []
        return told

    def group(self, name: str, *cidrs: str, **labels: str) -> None:
        found = tuple(ip_network(c) for c in cidrs)
        self.groups.upsert(CidrGroup(name, tuple(sorted(labels.items())), found))

    def peers(self, item: dict[str, Any], key: str = "p") -> list[str]:
        rules: list[Rule] = decode(policy(egress=[item]))
        return texts(self.references.resolve(ObjectKey("K", "red", key), rules))


def texts(rules: Iterable[Rule]) -> list[str]:
    [rule] = rules
    assert rule.references is None and not rule.anybody
    return [*map(peer_text, rule.selectors or ()), *map(peer_text, rule.cidrs or ())]


def test_a_group_by_name() -> None:
    """Its prefixes, without what is excepted; nobody while it does not exist."""
    world = World()
    item = {"toCIDRSet": [{"cidrGroupRef": "g", "except": ["10.1.0.0/16", "2001:db8::/32"]}]}
    assert world.peers(item) == []
    world.group("g", "10.0.0.0/8", "10.1.2.0/24", "fd00::/8")
    assert world.flush() == [ObjectKey("K", "red", "p")]
    rules = world.references.again(ObjectKey("K", "red", "p"))
    assert rules is not None
    assert texts(rules) == ["10.0.0.0/8 except 10.1.0.0/16", "fd00::/8"]


def test_groups_by_labels() -> None:
    """Every group that has the labels; one that loses them goes."""
    world = World()
    world.group("a", "10.0.0.0/8", tier="x")
    world.group("b", "11.0.0.0/8", tier="y")
    item = {"toCIDRSet": [{"cidrGroupSelector": {"matchLabels": {"tier": "x"}}}]}
    assert world.peers(item) == ["10.0.0.0/8"]
    world.flush()
    world.group("a", "10.0.0.0/8")
    assert world.flush() == [ObjectKey("K", "red", "p")]
    assert texts(world.references.again(ObjectKey("K", "red", "p")) or ()) == []


def test_only_who_refers_is_told() -> None:
    """A change of one group is no work for others, nor after the object is gone."""
    world = World()
    world.peers({"toCIDRSet": [{"cidrGroupRef": "g"}]}, "one")
    world.peers({"toCIDRSet": [{"cidrGroupRef": "h"}]}, "two")
    world.peers({"toCIDR": ["10.0.0.0/8"]}, "three")
    world.group("h", "10.0.0.0/8")
    assert world.flush() == [ObjectKey("K", "red", "two")]
    world.references.forget(ObjectKey("K", "red", "two"))
    world.group("h", "11.0.0.0/8")
    assert world.flush() == []


def test_a_service_with_a_selector_is_its_pods() -> None:
    """In its own namespace, whatever other pods carry the labels."""
    world = World()
    world.services.upsert(ServiceRow("blue", "web", (), (("app", "web"),)))
    item = {"toServices": [{"k8sService": {"serviceName": "web", "namespace": "blue"}}]}
    assert world.peers(item) == ["k8s:app=web, k8s:io.kubernetes.pod.namespace=blue"]
    assert world.peers({"toServices": [{"k8sService": {"serviceName": "web"}}]}, "q") == []


def test_a_service_without_a_selector_is_its_addresses() -> None:
    """Of all its slices, followed as they change; both families."""
    world = World()
    world.services.upsert(ServiceRow("red", "db", (("kind", "db"),), ()))
    key = ObjectKey("K", "red", "p")
    chosen = {"k8sServiceSelector": {"selector": {"matchLabels": {"kind": "db"}}}}
    assert world.peers({"toServices": [chosen]}) == []
    world.flush()
    for name, address in (("s4", "192.0.2.7"), ("s6", "2001:db8::7")):
        world.slices.upsert(SliceRow("red", name, ("red", "db"), (ip_address(address),)))
    assert world.flush() == [key]
    assert texts(world.references.again(key) or ()) == ["192.0.2.7/32", "2001:db8::7/128"]
    world.slices.upsert(SliceRow("red", "other", ("red", "nobody"), (ip_address("192.0.2.8"),)))
    assert world.peers({"toServices": [chosen]}) == ["192.0.2.7/32", "2001:db8::7/128"]
    world.flush()
    world.services.delete(("red", "db"))
    assert world.flush() == [key]
    assert texts(world.references.again(key) or ()) == []


def obj(kind: str, body: dict[str, Any], **labels: str) -> ClusterObject:
    return ClusterObject(ObjectKey(kind, "red", "x"), "v1", labels=labels, body=body)


@pytest.mark.parametrize(
    ("decoder", "found", "field"),
    [
        (decode_group, obj("CiliumCIDRGroup", {}), "spec"),
        (decode_group, obj("CiliumCIDRGroup", {"spec": {}}), "spec.externalCIDRs"),
        (
            decode_group,
            obj("CiliumCIDRGroup", {"spec": {"externalCIDRs": ["10.0.0.0/8", "x"]}}),
            "spec.externalCIDRs[1]",
        ),
        (decode_service, obj("Service", {"spec": {"selector": {"a": 1}}}), "spec.selector.a"),
        (decode_service, obj("Service", {"spec": {"selector": []}}), "spec.selector"),
    ],
)
def test_bad_referents_are_named(decoder: Any, found: ClusterObject, field: str) -> None:
    """With the path of the field; the reflector then keeps the last good version."""
    with pytest.raises(InvalidObjectError) as caught:
        decoder(found)
    assert caught.value.field == field


def test_slices() -> None:
    """Addresses of a Service; a bad one is named; those of nobody are left out."""
    body = {"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}]}
    label = {"kubernetes.io/service-name": "web"}
    found = decode_slice(obj("EndpointSlice", body, **label))
    assert found is not None and found.addresses == (ip_address("192.0.2.1"),)
    assert decode_slice(obj("EndpointSlice", body)) is None
    bad = {"endpoints": [{}, {"addresses": ["192.0.2.1", "none"]}]}
    with pytest.raises(InvalidObjectError) as caught:
        decode_slice(obj("EndpointSlice", bad, **label))
    assert caught.value.field == "endpoints[1].addresses[1]"
    assert decode_service(obj("Service", {"spec": {"type": "ExternalName"}})) is None
