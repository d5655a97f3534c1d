"""The engine by example: modes, defaults, lessons of others' bugs, cost of a change."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from axoneme.core.model.labels import RESERVED, Label, LabelSet
from axoneme.core.model.policy import PortRange
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.entries import EGRESS, INGRESS, PolicyKey, lookup
from axoneme.plugins.policy.subjects import Settings
from axoneme.plugins.policy.tests.policy_reference import Pod
from axoneme.plugins.policy.tests.world import Cluster

WEB = Pod("red", "web", {"app": "web"}, {"team": "a"}, {"http": ("TCP", 8080)})
CLIENT = Pod("red", "client", {"app": "client"}, {"team": "a"})
STRANGER = Pod("blue", "client", {"app": "client"}, {"team": "b"})
PODS = [WEB, CLIENT, STRANGER]


def cnp(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "red"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, **spec},
    }


def cluster(*policies: dict[str, Any], settings: Settings | None = None) -> Cluster:
    made = Cluster(PODS, settings)
    for policy in policies:
        made.apply(policy)
    return made


def test_no_rule_means_two_wildcards() -> None:
    """A subject that nothing selects has one allow per direction, for anybody and everything."""
    made = cluster()
    made.engine.flush()
    entries = made.engine.entries(made.number(WEB))
    assert set(entries) == {PolicyKey(0, INGRESS, 0, 0, 0), PolicyKey(0, EGRESS, 0, 0, 0)}
    assert {v.cookie for v in entries.values()} == {0}


@pytest.mark.parametrize(
    ("mode", "ingress", "egress"),
    [("default", False, True), ("always", False, False), ("never", True, True)],
)
def test_modes(mode: str, ingress: bool, egress: bool) -> None:
    """``default`` enforces a direction that is selected, ``always`` all, ``never`` none."""
    made = cluster(cnp(ingress=[{}]), settings=Settings(mode))
    assert made.allows(WEB, "ingress", CLIENT, "TCP", 80) is ingress
    assert made.allows(WEB, "egress", CLIENT, "TCP", 80) is egress


@pytest.mark.parametrize("allowed", [True, False])
def test_localhost(allowed: bool) -> None:
    """The node reaches its pods unless ``allow-localhost`` is ``policy``; a deny still wins."""
    settings = Settings(allow_localhost=allowed)
    made = cluster(cnp(ingress=[{}]), settings=settings)
    assert made.allows(WEB, "ingress", "host", "TCP", 80) is allowed
    assert not made.allows(WEB, "ingress", "remote-node", "TCP", 80)
    made = cluster(cnp(ingressDeny=[{"fromEntities": ["host"]}]), settings=settings)
    assert not made.allows(WEB, "ingress", "host", "TCP", 80)


def test_init_is_default_deny() -> None:
    """An endpoint that nobody has named, or whose labels are unknown, may nothing."""
    engine = PolicyEngine()
    engine.upsert_identity(5, LabelSet.of([Label(RESERVED, "init")]))
    engine.set_subject(5)
    engine.set_subject(999)
    engine.flush()
    assert engine.enforced(5) == engine.enforced(999) == (True, True)
    for subject in (5, 999):
        assert lookup(engine.entries(subject), 300, EGRESS, 6, 80) is None


def test_cidr_deny_covers_a_narrower_allow() -> None:
    """A denied /24 stays denied for the /32 that another rule allows (CVE-2024-47825)."""
    made = cluster(
        cnp(egress=[{"toCIDR": ["10.0.0.7/32"]}], egressDeny=[{"toCIDR": ["10.0.0.0/24"]}])
    )
    assert not made.allows(WEB, "egress", ip_address("10.0.0.7"), "TCP", 80)
    made = cluster(
        cnp(egress=[{"toEntities": ["world"]}], egressDeny=[{"toCIDR": ["10.0.0.0/24"]}])
    )
    assert not made.allows(WEB, "egress", ip_address("10.0.0.7"), "TCP", 80)
    assert made.allows(WEB, "egress", ip_address("10.0.1.7"), "TCP", 80)


@pytest.mark.parametrize(
    ("family", "address", "own", "other"),
    [(4, "192.0.2.1", "0.0.0.0/0", "::/0"), (6, "2001:db8::1", "::/0", "0.0.0.0/0")],
)
def test_a_single_family(family: int, address: str, own: str, other: str) -> None:
    """The world of one family is that family's: the other's prefix and entity are not meant."""
    peer = ip_address(address)
    word, strange = f"world-ipv{family}", f"world-ipv{10 - family}"
    inside = [f"{address}/{peer.max_prefixlen}"]  # an identity of its own, which is world as well
    everybody = {"fromEntities": ["all"]}
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"ingress": [{"fromCIDR": [own]}]}, True),
        ({"ingress": [{"fromCIDR": [other]}]}, False),
        ({"ingress": [{"fromEntities": [word]}]}, True),
        ({"ingress": [{"fromEntities": [strange]}]}, False),
        ({"ingress": [everybody], "ingressDeny": [{"fromEntities": [word]}]}, False),
        ({"ingress": [everybody], "ingressDeny": [{"fromEntities": [strange]}]}, True),
    ]
    for spec, wanted in cases:
        for more in ([], [cnp("q", egress=[{"toCIDR": inside}])]):
            made = Cluster(PODS, families=(family,))
            for policy in (cnp(**spec), *more):
                made.apply(policy)
            assert made.allows(WEB, "ingress", peer, "TCP", 80) is wanted, spec


def test_range_does_not_lose_the_port_inside_it() -> None:
    """A deny of one port inside an allowed range, and the reverse (CVE-2024-52529)."""
    many = {"ports": [{"port": "1", "endPort": 9000, "protocol": "TCP"}]}
    one = {"ports": [{"port": "80", "protocol": "TCP"}]}
    peer = {"fromEndpoints": [{"matchLabels": {"app": "client"}}]}
    made = cluster(
        cnp(ingress=[{**peer, "toPorts": [many]}], ingressDeny=[{**peer, "toPorts": [one]}])
    )
    assert not made.allows(WEB, "ingress", CLIENT, "TCP", 80)
    assert made.allows(WEB, "ingress", CLIENT, "TCP", 81)
    made = cluster(
        cnp(ingress=[{**peer, "toPorts": [one]}], ingressDeny=[{**peer, "toPorts": [many]}])
    )
    assert not made.allows(WEB, "ingress", CLIENT, "TCP", 80)


def test_icmp_needs_a_rule_like_anything_else() -> None:
    """Echo passes only by a rule that admits it (GHSA-c66w-hq56-4q97)."""
    peer: dict[str, Any] = {"fromEndpoints": [{}]}
    tcp = cnp(ingress=[{**peer, "toPorts": [{"ports": [{"port": "0", "protocol": "TCP"}]}]}])
    echo = cnp("q", ingress=[{**peer, "icmps": [{"fields": [{"type": 8}]}]}])
    made = cluster(tcp)
    assert not made.allows(WEB, "ingress", CLIENT, "ICMP", 8)
    assert not made.allows(WEB, "ingress", CLIENT, "ICMPv6", 128)
    made.apply(echo)
    assert made.allows(WEB, "ingress", CLIENT, "ICMP", 8)
    assert not made.allows(WEB, "ingress", CLIENT, "ICMP", 0)
    assert not made.allows(WEB, "ingress", CLIENT, "ICMPv6", 128)


def test_ports_of_one_peer_do_not_widen_another() -> None:
    """Allow-all for one peer leaves the ports of the other as they are (CVE-2023-30851)."""
    port = {"ports": [{"port": "80", "protocol": "TCP"}]}
    other = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "blue"}}
    made = cluster(
        cnp(
            ingress=[
                {"fromEndpoints": [{"matchLabels": {"app": "client"}}]},
                {"fromEndpoints": [other], "toPorts": [port]},
            ]
        )
    )
    assert made.allows(WEB, "ingress", CLIENT, "TCP", 443)
    assert made.allows(WEB, "ingress", STRANGER, "TCP", 80)
    assert not made.allows(WEB, "ingress", STRANGER, "TCP", 443)


def test_a_namespaced_policy_stays_in_its_namespace() -> None:
    """It neither selects nor admits pods of another one by labels alone (CVE-2023-41333).

    Nor do a user's labels choose: the namespace comes from the identity (CVE-2023-39347).
    """
    escape = {"matchExpressions": [{"key": "reserved:init", "operator": "DoesNotExist"}]}
    policy = cnp(endpointSelector=escape, ingress=[{"fromEndpoints": [escape]}])
    made = cluster(policy)
    assert made.allows(WEB, "ingress", CLIENT, "TCP", 80)
    assert not made.allows(WEB, "ingress", STRANGER, "TCP", 80)
    assert not made.allows(WEB, "ingress", ip_address("10.0.0.1"), "TCP", 80)
    assert made.allows(STRANGER, "ingress", WEB, "TCP", 80)  # not selected: not enforced


@pytest.mark.parametrize("kind", ["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"])
@pytest.mark.parametrize(
    "key",
    [
        "io.cilium.k8s.namespace.labels.team",
        "k8s:io.cilium.k8s.namespace.labels.team",
        "io.kubernetes.pod.namespace",
        "gen:x",
        "container:x",
        "reserved:init",
    ],
)
@pytest.mark.parametrize(
    "operator", [{"operator": "NotIn", "values": ["c"]}, {"operator": "DoesNotExist"}]
)
def test_endpoints_are_pods(kind: str, key: str, operator: dict[str, Any]) -> None:
    """The world and the nodes lack every label of a pod; no selector lets them in for that."""
    policy = cnp(ingress=[{"fromEndpoints": [{"matchExpressions": [{"key": key, **operator}]}]}])
    if kind != policy["kind"]:
        policy["kind"] = kind
        del policy["metadata"]["namespace"]
    made = cluster(policy, settings=Settings(allow_localhost=False))
    everybody_else: list[Any] = [ip_address("203.0.113.9"), ip_address("fd00::1")]
    for peer in [*everybody_else, "host", "remote-node"]:
        assert not made.allows(WEB, "ingress", peer, "TCP", 80)


@pytest.mark.parametrize("default_deny", [True, False])
def test_who_is_not_known_may_be_who_is_denied(default_deny: bool) -> None:
    """Where some peers are denied, anybody is who policy has met; elsewhere it is everybody."""
    blue = {"matchLabels": {"io.kubernetes.pod.namespace": "blue"}}
    everybody: dict[str, Any] = {} if not default_deny else {"ingress": [{"fromEntities": ["all"]}]}
    stated: dict[str, Any] = {"enableDefaultDeny": {"ingress": default_deny}}
    made = cluster(cnp(ingressDeny=[{"fromEndpoints": [blue]}], **everybody, **stated))
    number, web = made.number(STRANGER), made.number(WEB)
    assert not made.allows(WEB, "ingress", STRANGER, "TCP", 80)
    made.engine.remove_identity(number)
    assert not made.allows(WEB, "ingress", STRANGER, "TCP", 80)
    assert made.allows(WEB, "ingress", CLIENT, "TCP", 80)
    assert made.allows(WEB, "egress", STRANGER, "TCP", 80)
    made.apply(cnp(ingress=[{"fromEntities": ["all"]}]))
    made.engine.flush()
    entries = made.engine.entries(web)
    assert lookup(entries, number, INGRESS, 6, 80, known=False)


def test_rules_are_judged_again_when_an_identity_changes() -> None:
    """Every input counts anew: an identity that comes back with other labels loses its allow.

    CVE-2023-34242, CVE-2024-42486: nothing stays authorised by what is no longer true.
    """
    made = cluster(cnp(ingress=[{"fromEndpoints": [{"matchLabels": {"app": "client"}}]}]))
    number = made.number(CLIENT)
    assert made.allows(WEB, "ingress", CLIENT, "TCP", 80)
    labels = LabelSet.parse(["k8s:app=other", "k8s:io.kubernetes.pod.namespace=red"])
    made.engine.upsert_identity(number, labels)
    assert not made.allows(WEB, "ingress", CLIENT, "TCP", 80)


def test_named_ports_that_disagree() -> None:
    """Pods of one identity that give a name two meanings: an allow opens neither, a deny both."""
    twin = Pod("red", "web-2", WEB.labels, WEB.namespace_labels, {"http": ("TCP", 9090)})
    item = {"toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}
    made = Cluster([*PODS, twin])
    made.apply(cnp(ingress=[item]))
    assert not made.allows(WEB, "ingress", CLIENT, "TCP", 8080)
    made.remove_pod(twin)
    assert made.allows(WEB, "ingress", CLIENT, "TCP", 8080)
    made = Cluster([*PODS, twin])
    made.apply(cnp(ingress=[{"fromEntities": ["all"]}], ingressDeny=[item]))
    assert not made.allows(WEB, "ingress", CLIENT, "TCP", 8080)
    assert not made.allows(WEB, "ingress", CLIENT, "TCP", 9090)
    assert made.allows(WEB, "ingress", CLIENT, "TCP", 80)


def test_entries_name_their_rule() -> None:
    """The cookie of a verdict leads to the object and the item, and survives a restart."""
    policy = cnp(ingress=[{}, {"fromEndpoints": [{}]}])
    made = cluster(policy)
    made.engine.flush()
    found = lookup(made.engine.entries(made.number(WEB)), made.number(CLIENT), INGRESS, 6, 80)
    assert found is not None
    rule = made.engine.rule(found.cookie)
    assert rule is not None
    assert str(rule.origin) == "CiliumNetworkPolicy red/p spec.ingress[1]"
    again = cluster(cnp("other", ingress=[{}]), policy)
    assert again.engine.rule(found.cookie) == rule


def test_a_new_pod_of_a_known_identity_costs_nothing() -> None:
    """Replicas share one set of entries: no decision is made for the second."""
    made = cluster(cnp(ingress=[{"fromEndpoints": [{}]}]))
    made.engine.flush()
    before = made.engine.peers_computed
    made.add_pod(Pod("red", "web-2", WEB.labels, WEB.namespace_labels, WEB.ports))
    assert made.engine.flush() == {}
    assert made.engine.peers_computed == before


def test_cost_follows_the_change() -> None:
    """With a thousand identities, one more costs one decision for each subject that selects it."""
    pods = [Pod("red", f"p{i}", {"app": f"a{i}"}, {"team": "a"}) for i in range(1000)]
    made = Cluster([WEB])
    made.apply(cnp(ingress=[{"fromEndpoints": [{}]}]))
    for pod in pods:
        made.engine.upsert_identity(
            made.numbers.setdefault(_labels(pod), 5000 + id(pod)), _labels(pod)
        )
    made.engine.flush()
    before = made.engine.peers_computed
    labels = _labels(Pod("red", "new", {"app": "new"}, {"team": "a"}))
    made.engine.upsert_identity(4000, labels)
    [delta] = made.engine.flush().values()
    assert made.engine.peers_computed - before == 1
    assert [k.peer for k in delta.upserts] == [4000]
    before = made.engine.peers_computed
    made.apply(cnp("q", ingress=[{"fromEndpoints": [{"matchLabels": {"app": "new"}}]}]))
    made.engine.flush()
    assert made.engine.peers_computed - before <= 4  # the peer, anybody, the host


def _labels(pod: Pod) -> LabelSet:
    from axoneme.plugins.policy.tests.world import pod_labels

    return pod_labels(pod)


def test_order_of_policies_and_rules_is_nothing() -> None:
    """Policies in any order, and one policy split in two, give the same verdicts."""
    items = [
        {"fromEndpoints": [{"matchLabels": {"app": "client"}}]},
        {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]},
    ]
    whole = cluster(cnp(ingress=items))
    split = cluster(cnp("b", ingress=items[1:]), cnp("a", ingress=items[:1]))
    peers: list[Any] = [CLIENT, STRANGER, ip_address("10.0.0.1")]
    for peer in peers:
        for port in (80, 81):
            assert whole.allows(WEB, "ingress", peer, "TCP", port) == split.allows(
                WEB, "ingress", peer, "TCP", port
            )


def test_a_named_port_of_nobody_is_inert() -> None:
    """A name that no selected pod has opens nothing."""
    made = cluster(cnp(ingress=[{"toPorts": [{"ports": [{"port": "nowhere"}]}]}]))
    assert not made.allows(WEB, "ingress", CLIENT, "TCP", 8080)
    assert PortRange(name="nowhere") in made.engine.rules()[0][2].ports  # type: ignore[operator]
