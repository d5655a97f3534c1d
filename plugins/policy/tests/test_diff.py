"""What would change: flows and pairs, judged by two engines' worth of entries."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from hypothesis import HealthCheck, given, settings

from axoneme.core.identities.reserved import cidr_labels
from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.labels import LabelSet
from axoneme.plugins.policy.diff import Change, Difference, Flow, Snapshot, Tip, compare
from axoneme.plugins.policy.explain import Packet, Party
from axoneme.plugins.policy.subjects import Settings
from axoneme.plugins.policy.tests.policy_reference import PROTOCOLS
from axoneme.plugins.policy.tests.strategies import PACKETS, PODS, policies, policy_lists
from axoneme.plugins.policy.tests.world import Cluster, as_object, decode

WORLD, WEB, CLIENT, OTHER = 9, 300, 400, 500
HTTP = (NamedPort("http", 8080, "TCP"),)
PARTIES = {
    WORLD: Party(
        WORLD,
        LabelSet.parse(["reserved:world-ipv4", "reserved:world"]),
        (ip_network("0.0.0.0/0"),),
    ),
    **{
        number: Party(
            number,
            LabelSet.parse([f"k8s:app={app}", "k8s:io.kubernetes.pod.namespace=shop"]),
            pods=(HTTP,) if app == "web" else ((),),
        )
        for number, app in ((WEB, "web"), (CLIENT, "client"), (OTHER, "other"))
    },
}


def policy(name: str, **spec: Any) -> Change:
    """A CiliumNetworkPolicy of the shop."""
    manifest = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, **spec},
    }
    return Change(as_object(manifest).key, tuple(decode(manifest)))


def peers(*apps: str) -> list[dict[str, Any]]:
    """``fromEndpoints``."""
    return [{"matchLabels": {"app": app}} for app in apps]


ONLY_CLIENT = policy("web", ingress=[{"fromEndpoints": peers("client")}])
ONLY_OTHER = policy("web", ingress=[{"fromEndpoints": peers("other")}])


def run(
    present: list[Change], changes: list[Change], *flows: Flow, seconds: float = 10.0, **more: Any
) -> Difference:
    """The comparison in a shop with web, client, other, and the world around it."""
    rules = [
        (n, c.key, r) for n, (c, r) in enumerate(((c, r) for c in present for r in c.rules), 1)
    ]
    pods = {i: p for i, p in PARTIES.items() if i != WORLD}
    snapshot = Snapshot(rules, Settings(), PARTIES, pods, frozenset(PARTIES))
    return compare(snapshot, changes, flows, more.get("added", {}), seconds=seconds)


def flow(source: int, destination: int, port: int = 8080, then: int = 0) -> Flow:
    """A TCP connection; the destination may be somebody else then."""
    return Flow(
        Tip("10.0.0.1", 40000, source, source),
        Tip("10.0.0.2", port, destination, then or destination),
        Packet(6, port),
        "open",
    )


def pairs(found: Difference) -> set[tuple[int, int, str, str]]:
    """Who, whom, now, then."""
    return {(p.source, p.destination, p.now, p.then) for p in found.pairs}


def test_a_flow_that_would_be_cut_is_named_with_its_rule() -> None:
    """Another one is not."""
    found = run([ONLY_CLIENT], [ONLY_OTHER], flow(CLIENT, WEB), flow(CLIENT, OTHER))
    assert [(f.flow.source.identity, f.now, f.then) for f in found.flows] == [
        (CLIENT, "allowed", "denied")
    ]
    assert found.flows[0].why is not None
    now, then = found.flows[0].why
    assert now.deciding is not None
    assert (then.deciding, then.reason) == (None, "no rule allows it")
    assert found.judged == 2


def test_pairs_are_those_whose_verdict_changes() -> None:
    """In both ways, and nobody else; a new policy that closes web is about everybody."""
    found = run([ONLY_CLIENT], [ONLY_OTHER])
    assert pairs(found) == {(CLIENT, WEB, "allowed", "denied"), (OTHER, WEB, "denied", "allowed")}
    closing = run([], [ONLY_CLIENT])
    assert pairs(closing) == {(p, WEB, "allowed", "denied") for p in (WORLD, OTHER, WEB)}


def test_a_change_that_changes_no_verdict_is_none() -> None:
    """The same policy, one that says the same again, and one that nobody is subject of."""
    again = policy("again", ingress=[{"fromEndpoints": peers("client")}])
    nobody = policy("nobody", endpointSelector={"matchLabels": {"app": "nobody"}}, ingress=[{}])
    for change in (ONLY_CLIENT, again, nobody):
        found = run([ONLY_CLIENT], [change], flow(CLIENT, WEB))
        assert (found.flows, found.pairs) == ([], [])


def test_the_other_end_s_denial_hides_a_change() -> None:
    """What egress denies now and then is no change, whatever ingress says."""
    shut = policy("shut", endpointSelector={"matchLabels": {"app": "client"}}, egress=[{}])
    found = run([ONLY_CLIENT, shut], [ONLY_OTHER], flow(CLIENT, WEB))
    assert found.flows == []
    assert (CLIENT, WEB, "allowed", "denied") not in pairs(found)


def test_ports_where_something_changes_are_told() -> None:
    """Named ports by number, and ranges in words."""
    narrow = policy(
        "web",
        ingress=[{"fromEndpoints": peers("client"), "toPorts": [{"ports": [{"port": "http"}]}]}],
    )
    found = run([narrow], [ONLY_CLIENT])
    [pair] = found.pairs
    assert (pair.source, pair.now, pair.then, pair.ports) == (CLIENT, "denied", "allowed", ("ANY",))


def test_prefixes_that_nobody_named_yet_are_judged() -> None:
    """The address gets the identity that it would have."""
    prefix = ip_network("192.0.2.0/24")
    party = Party(1 << 24, cidr_labels(prefix, dual_stack=True), (prefix,))
    deny = policy(
        "out",
        endpointSelector={"matchLabels": {"app": "client"}},
        egress=[{"toEntities": ["all"]}],
        egressDeny=[{"toCIDR": [str(prefix)]}],
    )
    seen = flow(CLIENT, WORLD, 443, then=party.identity)
    found = run([], [deny], seen, flow(CLIENT, WORLD, 443), added={party.identity: party})
    assert [f.flow for f in found.flows] == [seen]
    assert pairs(found) == {(CLIENT, party.identity, "allowed", "denied")}


def test_a_comparison_without_time_says_so() -> None:
    """What it has by then is the answer."""
    assert run([ONLY_CLIENT], [ONLY_OTHER], flow(CLIENT, WEB), seconds=0.0).truncated


def _party(cluster: Cluster, number: int) -> Party:
    labels = cluster.engine.selectors.labels(number)
    assert labels is not None
    pods = tuple(
        tuple(NamedPort(n, p, proto) for n, (proto, p) in pod.ports.items())
        for pod in cluster.pods.get(number, ())
    )
    prefixes = tuple(p for p, n in cluster.prefixes.items() if n == number)
    return Party(number, labels, prefixes, pods)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(policy_lists(3), policies())
def test_flows_change_as_they_do_when_it_is_applied(
    listed: list[dict[str, Any]], new: dict[str, Any]
) -> None:
    """Against a cluster in which the policy is really applied."""
    cluster = Cluster(PODS)
    for manifest in [*listed, new]:
        cluster.apply(manifest)  # gives prefixes their identities
    if not any(as_object(m).key == as_object(new).key for m in listed):
        cluster.delete(new)
    else:
        for manifest in listed:
            cluster.apply(manifest)
    cluster.engine.flush()
    numbers = {cluster.number(pod) for pod in PODS}
    parties = {n: _party(cluster, n) for n in {*numbers, *cluster.prefixes.values(), 1, 6}}
    snapshot = Snapshot(
        cluster.engine.rules(),
        cluster.engine.settings,
        parties,
        {n: parties[n] for n in numbers},
        frozenset(parties),
    )

    def verdicts() -> dict[Any, bool]:
        return {
            (a.name, b.name, word, port): cluster.allows(a, "egress", b, word, port)
            and cluster.allows(b, "ingress", a, word, port)
            for a in PODS[:3]
            for b in PODS[:3]
            for word, port in PACKETS[::4]
        }

    flows = {}
    for a in PODS[:3]:
        for b in PODS[:3]:
            for word, port in PACKETS[::4]:
                x, y = cluster.number(a), cluster.number(b)
                packet = Packet(PROTOCOLS[word], port)
                flows[a.name, b.name, word, port] = Flow(
                    Tip("", 0, x, x), Tip("", port, y, y), packet, "open"
                )
    before = verdicts()
    change = Change(as_object(new).key, tuple(decode(new)))
    found = compare(snapshot, [change], list(flows.values()), {})
    cluster.apply(new)
    after = verdicts()
    told = {id(f.flow) for f in found.flows}
    assert {k for k in flows if id(flows[k]) in told} == {k for k in flows if before[k] != after[k]}
