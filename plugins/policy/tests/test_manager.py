"""From the store to rows: sync, subjects, prefixes, overflow, the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from axoneme.core.endpoints.tables import endpoint_table
from axoneme.core.errors import DatapathError, ExhaustedError
from axoneme.core.identities.local import LocalIdentities
from axoneme.core.identities.table import identity_table
from axoneme.core.ipcache.ipcache import Ipcache, ipcache_table
from axoneme.core.ipcache.remote import ClusterEndpoint, cluster_endpoint_table
from axoneme.core.model.endpoint import Endpoint, NamedPort
from axoneme.core.model.identity import Identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.state import TableRegistry
from axoneme.core.store.folder import FolderStore
from axoneme.plugins.policy import cidrs
from axoneme.plugins.policy import manager as manager_module
from axoneme.plugins.policy.cidrs import PrefixIdentities
from axoneme.plugins.policy.decode.kinds import decode_object
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.entries import EGRESS, INGRESS, lookup
from axoneme.plugins.policy.l7 import ProxyTables
from axoneme.plugins.policy.lastgood import LastGood
from axoneme.plugins.policy.manager import PolicyManager
from axoneme.plugins.policy.sources import PolicySources
from axoneme.plugins.policy.tables import KNOWN, PolicyTables, SubjectPolicy

WEB, CLIENT = 300, 301
LABELS = "k8s:io.kubernetes.pod.namespace=red"


class FakeMaps:
    """A target in memory; ``broken`` identities fail."""

    name = "policy"

    def __init__(self) -> None:
        self.rows: dict[int, SubjectPolicy] = {}
        self.known: set[int] = set()
        self.broken: set[int] = set()
        self.overflowed: set[int] = set()

    def apply(
        self, upserts: Mapping[int, SubjectPolicy], deletes: Mapping[int, SubjectPolicy]
    ) -> Mapping[int, Exception]:
        self.rows.update({i: row for i, row in upserts.items() if i != KNOWN})
        if KNOWN in upserts:
            self.known = {key.peer for key in upserts[KNOWN].entries}
        for identity in deletes:
            self.rows.pop(identity, None)
        return {i: DatapathError("broken") for i in upserts if i in self.broken}

    def resync(self, desired: Mapping[int, SubjectPolicy]) -> Mapping[int, Exception]:
        self.rows.clear()
        return self.apply(desired, {})


class Local:
    """The allocator's part for prefixes."""

    def __init__(self, table: Any) -> None:
        self.local = LocalIdentities(table)

    def allocate_local(self, labels: LabelSet) -> int:
        return self.local.allocate(labels)

    def release_local(self, number: int) -> bool:
        return self.local.release(number)


class Node:
    """An agent's worth of tables around one manager and one folder store."""

    def __init__(self, folder: Path, limit: int = 16384, maps: Any = None) -> None:
        self.tables = TableRegistry()
        self.identities = identity_table(self.tables)
        self.endpoints = endpoint_table(self.tables)
        self.peers = cluster_endpoint_table(self.tables)
        self.ipcache = Ipcache(ipcache_table(self.tables))
        self.store = FolderStore(folder / "store")
        self.maps = FakeMaps()
        sources = PolicySources(lambda o: decode_object(o) or [], LastGood(folder / "policies"))
        self.manager = PolicyManager(
            PolicyEngine(),
            PolicyTables.create(self.tables),
            sources,
            maps or self.maps,  # type: ignore[arg-type]
            max_entries=limit,
            proxies=ProxyTables(self.tables),
        )
        self.manager.objects.cidrs = PrefixIdentities(
            Local(self.identities), self.ipcache, self.manager.realised, told=self.told
        )
        for number, app in ((WEB, "web"), (CLIENT, "client")):
            self.identities.upsert(Identity(number, LabelSet.parse([f"k8s:app={app}", LABELS])))
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Node:
        manager = self.manager
        manager.follow_identities(self.identities)
        manager.follow_endpoints(self.endpoints)
        manager.follow_peers(self.peers)
        kinds = [k.kind for k in self.store.kinds.policies()]
        manager.objects.expect(kinds)
        assert manager.objects.cidrs is not None
        work = [manager.objects.follow(self.store, k) for k in kinds] + [
            manager.objects.cidrs.run()
        ]
        self._tasks = [asyncio.create_task(w) for w in work]
        await asyncio.wait_for(manager.tables.policies.initialized.wait(), 10)
        await manager.go_live()
        self._tasks.append(asyncio.create_task(manager.reconciler.run()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.close()

    async def told(self) -> None:
        """The ipcache of these tests is its table."""

    def endpoint(self, number: int, identity: int) -> Endpoint:
        row = Endpoint(
            number, f"c{number}:eth0", "red", f"pod{number}", None, None, "axo0", number, "eth0",
            "", "", "", 1500, identity=identity,
        )  # fmt: skip
        self.endpoints.upsert(row)
        return row

    def passes(self, peer: int, port: int = 80) -> bool:
        entries = self.maps.rows[WEB].entries
        found = lookup(entries, peer, INGRESS, 6, port, known=peer in self.maps.known)
        return found is not None and not found.deny

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)


def policy(*ingress: dict[str, Any], name: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "red"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "web"}},
            **({"ingress": list(ingress)} if ingress else {}),
            **spec,
        },
    }


def run(scenario: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(bounded())


def test_the_gate_opens_when_the_policy_is_in_the_kernel(tmp_path: Path) -> None:
    """``wait_for`` programs an identity that has no endpoint row yet, and returns its revision."""

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            await node.store.create(policy({"fromEndpoints": [{"matchLabels": {"app": "client"}}]}))
            await node.until(lambda: len(node.manager.tables.policies) == 1)
            revision = await node.manager.wait_for(WEB)
            assert node.maps.rows[WEB].revision == revision > 0
            assert node.passes(CLIENT) and not node.passes(9)
            node.endpoint(1, WEB)
            node.endpoint(2, WEB)
            assert await node.manager.wait_for(WEB) == revision  # a replica costs nothing
            node.endpoints.delete(1)
            await node.until(lambda: len(node.manager.members(WEB)) == 1)
            assert WEB in node.maps.rows
            node.endpoints.delete(2)
            await node.until(lambda: WEB not in node.maps.rows)

    run(scenario())


def test_an_endpoint_that_never_came_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed ADD the identity's entries go again; with an endpoint they stay."""
    monkeypatch.setattr(manager_module, "ORPHAN_SECONDS", 0.05)

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            node.endpoint(1, WEB)
            await asyncio.gather(node.manager.wait_for(WEB), node.manager.wait_for(CLIENT))
            assert node.maps.rows.keys() == {WEB, CLIENT}
            await node.until(lambda: node.maps.rows.keys() == {WEB})

    run(scenario())


def test_the_gate_stays_shut_when_the_kernel_refuses(tmp_path: Path) -> None:
    """An identity whose policy could not be programmed is an error for the endpoint."""

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            node.maps.broken.add(WEB)
            with pytest.raises(DatapathError, match="not in force"):
                await node.manager.wait_for(WEB)

    run(scenario())


def test_nothing_is_published_before_all_is_read(tmp_path: Path) -> None:
    """A restarted agent's first pass holds the whole policy, never a part of it."""

    async def scenario() -> None:
        first = FolderStore(tmp_path / "store")
        await first.create(policy({}))
        await first.close()
        node = Node(tmp_path)
        node.endpoint(1, WEB)
        assert node.maps.rows == {}
        async with node:
            await node.until(lambda: WEB in node.maps.rows)
            assert node.maps.rows[WEB].ingress_enforced
            assert not node.passes(CLIENT)

    run(scenario())


def test_the_first_pass_has_every_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many turns it takes to compute them: what it lacks, it sweeps from the kernel."""
    monkeypatch.setattr(manager_module, "FLUSH_MOST", 1)

    async def scenario() -> None:
        node = Node(tmp_path)
        for number in range(20):
            node.endpoint(number, 1000 + number)
        passes: list[set[int]] = []
        resync = node.maps.resync

        def watched(desired: Mapping[int, SubjectPolicy]) -> Mapping[int, Exception]:
            passes.append({i for i in desired if i})
            return resync(desired)

        node.maps.resync = watched  # type: ignore[method-assign]
        async with node:
            await node.until(lambda: bool(passes))
            assert passes[0] == set(range(1000, 1020))

    run(scenario())


@pytest.mark.parametrize("most", [1, 5000])
def test_a_prefix_is_handed_out_after_its_denies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A policy of another subject that names a denied prefix does not open it for a moment."""
    monkeypatch.setattr(manager_module, "FLUSH_MOST", most)

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            for number in range(10):
                node.endpoint(10 + number, 1000 + number)
            node.endpoint(1, WEB)
            deny = policy({"fromEntities": ["all"]}, ingressDeny=[{"fromCIDR": ["10.0.0.0/8"]}])
            await node.store.create(deny)
            await node.until(lambda: len(node.ipcache.table) == 1)
            handed: list[bool] = []
            upsert = node.ipcache.upsert

            def watched(prefix: Any, identity: int, *more: Any, **named: Any) -> None:
                handed.append(node.passes(identity))
                upsert(prefix, identity, *more, **named)

            node.ipcache.upsert = watched  # type: ignore[method-assign]
            other = policy({"fromCIDR": ["10.1.0.0/16"]}, name="other")
            other["spec"]["endpointSelector"] = {"matchLabels": {"app": "client"}}
            await node.store.create(other)
            await node.until(lambda: len(node.ipcache.table) == 2)
            assert handed == [False]

    run(scenario())


def test_a_bad_edit_keeps_the_rules_and_says_so(tmp_path: Path) -> None:
    """The row names the field, the entries stay; deleting the object opens again."""

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            node.endpoint(1, WEB)
            await node.store.create(policy({"fromEndpoints": [{"matchLabels": {"app": "client"}}]}))
            await node.until(lambda: WEB in node.maps.rows and not node.passes(9))
            bad = policy({"toPorts": [{"ports": [{"port": "70000", "protocol": "TCP"}]}]})
            await node.store.apply(bad)
            await node.until(lambda: not node.manager.tables.policies.rows()[0].valid)
            row = node.manager.tables.policies.rows()[0]
            assert "spec.ingress[0].toPorts[0].ports[0].port" in row.message
            await node.manager.reconciler.sync()
            assert node.passes(CLIENT) and not node.passes(9)
            await node.store.delete(row.key)
            await node.until(lambda: node.passes(9))
            assert len(node.manager.tables.rules) == 0

    run(scenario())


def test_prefixes_get_identities_and_give_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries first, then the ipcache; the reverse when a prefix is not named any more."""
    monkeypatch.setattr(cidrs, "LINGER", 0.05)

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            node.endpoint(1, WEB)
            block = {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}
            body = policy({"fromCIDRSet": [block]}, ingressDeny=[{"fromCIDR": ["10.2.0.0/24"]}])
            await node.store.create(body)
            table = node.ipcache.table
            await node.until(lambda: len(table) == 3)
            numbers = {str(r.prefix): r.identity for r in table}
            assert {r.source for r in table} == {"cidr"}
            assert node.passes(numbers["10.0.0.0/8"])
            assert not node.passes(numbers["10.1.0.0/16"])
            assert not node.passes(numbers["10.2.0.0/24"])
            assert not node.passes(9)
            await node.store.apply(policy({"fromCIDR": ["10.0.0.0/8", "0.0.0.0/0"]}))
            await node.until(lambda: len(table) == 1 and node.passes(9))
            await node.until(lambda: numbers["10.1.0.0/16"] not in node.identities)
            assert table.rows()[0].prefix == ip_network("10.0.0.0/8")
            assert table.rows()[0].identity == numbers["10.0.0.0/8"]

    run(scenario())


def test_a_prefix_that_comes_back_keeps_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delete and create within the grace: the identity never ends."""
    monkeypatch.setattr(cidrs, "LINGER", 30.0)

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            manager = node.manager.objects.cidrs
            assert manager is not None
            prefix = ip_network("10.0.0.0/8")
            manager.acquire([prefix])
            number = manager.number(prefix)
            manager.release([prefix])
            assert len(node.ipcache.table) == 0
            manager.acquire([prefix])
            assert manager.number(prefix) == number
            await node.until(lambda: len(node.ipcache.table) == 1)

    run(scenario())


def test_no_number_left_refuses_the_policy(tmp_path: Path) -> None:
    """All prefixes of a policy or none: the rules in force stay, the row says why."""

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            manager = node.manager.objects.cidrs
            assert manager is not None
            allocate = manager._identities.allocate_local

            def short(labels: LabelSet) -> int:
                if labels.get("cidr", "10.2.0.0/16") is not None:
                    raise ExhaustedError("no local identity left")
                return allocate(labels)

            manager._identities.allocate_local = short  # type: ignore[method-assign]
            await node.store.create(policy({"fromCIDR": ["10.1.0.0/16", "10.2.0.0/16"]}))
            await node.until(lambda: len(node.manager.tables.policies) == 1)
            row = node.manager.tables.policies.rows()[0]
            assert not row.valid and "no local identity left" in row.message
            assert len(node.ipcache.table) == 0 and node.manager.engine.rules() == []

    run(scenario())


def test_too_many_entries_lock_the_identity(tmp_path: Path) -> None:
    """The row is empty and marked; fewer entries open it again."""

    async def scenario() -> None:
        async with Node(tmp_path, limit=5) as node:
            node.endpoint(1, WEB)
            ports = [{"port": str(p), "protocol": "TCP"} for p in range(80, 90)]
            await node.store.create(policy({"toPorts": [{"ports": ports}]}))
            await node.until(lambda: WEB in node.maps.rows and node.maps.rows[WEB].overflow)
            assert node.maps.rows[WEB].entries == {} and node.maps.rows[WEB].size > 5
            await node.store.apply(policy({"toPorts": [{"ports": ports[:2]}]}))
            await node.until(lambda: not node.maps.rows[WEB].overflow)
            assert node.passes(9, 81)

    run(scenario())


def test_a_large_change_leaves_the_loop_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subjects come one turn after the other, the one that is waited for first."""
    monkeypatch.setattr(manager_module, "FLUSH_MOST", 1)

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            node.manager.engine.set_subject(CLIENT)
            node.manager.engine.set_subject(302)
            await node.manager.wait_for(WEB)
            assert WEB in node.maps.rows
            assert node.maps.rows[WEB].revision < 4
            await node.until(lambda: node.maps.rows.keys() == {WEB, CLIENT, 302})

    run(scenario())


def test_an_identity_in_use_stays(tmp_path: Path) -> None:
    """A deleted object is forgotten when no pod carries its number; until then it is denied."""

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            node.endpoint(1, WEB)
            denied = {"fromEndpoints": [{"matchLabels": {"app": "client"}}]}
            await node.store.create(
                policy({"fromEntities": ["all"]}, ingressDeny=[denied]),
            )
            await node.until(lambda: WEB in node.maps.rows and not node.passes(CLIENT))
            assert node.passes(9) and not node.passes(4711)
            node.peers.upsert(ClusterEndpoint("red", "client", CLIENT))
            await asyncio.sleep(0.05)
            node.identities.delete(CLIENT)
            await asyncio.sleep(0.05)
            assert CLIENT in node.manager.engine.selectors and CLIENT in node.maps.known
            node.peers.delete(("red", "client"))
            await node.until(lambda: CLIENT not in node.manager.engine.selectors)
            await node.until(lambda: CLIENT not in node.maps.known)
            assert not node.passes(CLIENT)

    run(scenario())


def test_a_mark_waits_for_all_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer is known once every subject has its entries, however many turns that takes."""
    monkeypatch.setattr(manager_module, "FLUSH_MOST", 1)

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            for number in range(5):
                node.endpoint(number, 1000 + number)
                labels = LabelSet.parse([f"k8s:n={number}", LABELS])
                node.identities.upsert(Identity(1000 + number, labels))
            deny = policy(ingressDeny=[{"fromEndpoints": [{"matchLabels": {"app": "new"}}]}])
            deny["spec"]["endpointSelector"] = {}
            await node.store.create(deny)
            await node.until(lambda: len(node.manager.tables.policies) == 1)
            await node.manager.realised()
            apply = node.maps.apply
            without: list[int] = []

            def watched(upserts: Any, deletes: Any) -> Any:
                result = apply(upserts, deletes)
                if 400 in node.maps.known:
                    rows = [node.maps.rows[1000 + i].entries for i in range(5)]
                    without.append(sum(not any(k.peer == 400 for k in e) for e in rows))
                return result

            node.maps.apply = watched  # type: ignore[method-assign]
            node.identities.upsert(Identity(400, LabelSet.parse(["k8s:app=new", LABELS])))
            await node.until(lambda: bool(without))
            assert without[0] == 0

    run(scenario())


def test_port_names_of_local_pods_count_at_once(tmp_path: Path) -> None:
    """An egress rule by port name knows a pod of this node before its object is read."""

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            node.endpoint(1, WEB)
            peer = node.endpoint(2, CLIENT)
            node.endpoints.upsert(evolve(peer, named_ports=(NamedPort("http", 80, "TCP"),)))
            item = {"toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}
            await node.store.create(
                policy(egress=[{"toEntities": ["all"]}], egressDeny=[item]),
            )
            await node.until(lambda: len(node.manager.tables.policies) == 1)
            await node.manager.realised()

            def denied() -> bool:
                found = lookup(node.maps.rows[WEB].entries, CLIENT, EGRESS, 6, 80)
                return found is not None and found.deny

            assert denied()
            node.endpoints.delete(2)
            await node.until(lambda: not denied())

    run(scenario())


def test_the_old_identity_stays_in_force_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint whose labels change sends under the old identity until its maps say otherwise."""
    monkeypatch.setattr(manager_module, "ORPHAN_SECONDS", 0.3)

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            row = evolve(node.endpoint(1, WEB), named_ports=(NamedPort("http", 80, "TCP"),))
            node.endpoints.upsert(row)
            port = {"toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}
            await node.store.create(policy(port))
            await node.until(lambda: WEB in node.maps.rows and not node.passes(9, 81))
            await node.manager.wait_for(CLIENT)
            node.endpoints.upsert(evolve(row, identity=CLIENT))
            await asyncio.sleep(0.05)
            await node.manager.realised()
            assert node.passes(9)
            await node.until(lambda: node.maps.rows.keys() == {CLIENT})
            node.endpoints.delete(1)
            await node.until(lambda: not node.maps.rows)

    run(scenario())


def test_rows_chain_by_delta(tmp_path: Path) -> None:
    """Each row leads from the one before, so a target need not compare thousands of entries."""

    async def scenario() -> None:
        async with Node(tmp_path) as node:
            node.endpoint(1, WEB)
            await node.until(lambda: WEB in node.maps.rows)
            first = node.maps.rows[WEB]
            await node.store.create(policy({"fromEndpoints": [{"matchLabels": {"app": "client"}}]}))
            await node.until(lambda: node.maps.rows[WEB].revision != first.revision)
            second = node.maps.rows[WEB]
            assert second.base == first.revision
            entries = dict(first.entries)
            for key in second.deletes:
                del entries[key]
            assert entries | dict(second.upserts) == second.entries
            assert evolve(second, entries={}) == second  # equality is by revision

    run(scenario())
