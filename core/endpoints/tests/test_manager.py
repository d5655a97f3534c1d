"""The life of endpoints, with a kernel that can be told to fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from axoneme.core.datapath.attachments import Attachment, attachment_key
from axoneme.core.endpoints import manager as manager_module
from axoneme.core.endpoints import podsource, restore
from axoneme.core.endpoints.files import EndpointFiles
from axoneme.core.endpoints.labels import PodLabeller
from axoneme.core.endpoints.links import MadeLink, host_name
from axoneme.core.endpoints.manager import EndpointManager
from axoneme.core.endpoints.objects import API_VERSION, KIND, encode_metadata, encode_status
from axoneme.core.endpoints.parts import EndpointParts, NodeFacts
from axoneme.core.endpoints.pods import Namespace, Pod, pod_tables
from axoneme.core.endpoints.podsource import EndpointRefresher, PodDirectory
from axoneme.core.endpoints.realize import Realizer
from axoneme.core.endpoints.request import EndpointRequest
from axoneme.core.endpoints.tables import address_table, endpoint_table, interface_table
from axoneme.core.errors import (
    AxonemeError,
    ConflictError,
    DatapathError,
    ExhaustedError,
    NetlinkError,
    NotReadyError,
    PendingError,
)
from axoneme.core.identities.allocator import IdentityAllocator
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.identities.follower import IdentityFollower
from axoneme.core.identities.maker import IdentityMaker
from axoneme.core.identities.objects import encode_identity
from axoneme.core.identities.table import identity_table
from axoneme.core.ipam.pool import AddressPool
from axoneme.core.ipcache.ipcache import Ipcache, ipcache_table
from axoneme.core.model.endpoint import AddressPair, AddressRequest, Endpoint, InterfaceSettings
from axoneme.core.model.identity import Identity
from axoneme.core.model.labels import Label, LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.state import Table, TableRegistry
from axoneme.core.store.folder import FolderStore
from axoneme.core.store.reflector import Reflector

STEPS = ("find", "allocate", "labels", "configure", "make", "policy", "set_up", "save")


class Kernel:
    """Links, hooks, pods, files and policy in one; ``fail`` names the step that breaks."""

    def __init__(self, folder: Path) -> None:
        self.fail = ""
        self.links: dict[str, int] = {}
        self.up: list[str] = []
        self.asked: list[str] = []
        self.addresses: dict[IPv4Address, str] = {}
        self.labels_now = LabelSet.parse(["k8s:app=web"])
        self.told: list[str] = []
        self.order: list[str] = []
        self.policies: list[int] = []
        self.gate_open = asyncio.Event()
        self.gate_open.set()
        self.files = EndpointFiles(folder)
        self.files.prepare()
        self._save = self.files.save
        self.files.save = self.save  # type: ignore[method-assign]
        self.next = 10

    def step(self, name: str, error: AxonemeError) -> None:
        self.order.append(name)
        if self.fail == name:
            raise error

    # Links

    def make(self, request: EndpointRequest, settings: InterfaceSettings) -> MadeLink:
        self.next += 1
        self.asked.append(request.attachment_id)
        self.links[host_name(request.attachment_id)] = self.next
        self.step("make", NetlinkError("no link", errno=1))
        return MadeLink(host_name(request.attachment_id), self.next, 2, "02:00:00:00:00:01", "x")

    def set_up(self, endpoint: Endpoint, gateways: Any, settings: InterfaceSettings) -> None:
        self.step("set_up", NetlinkError("no address", errno=1))
        self.up.append(endpoint.name)

    def remove(self, name: str) -> bool:
        return self.links.pop(name, None) is not None

    def remove_all(self, names: Sequence[str]) -> None:
        if self.fail == "remove":
            raise NetlinkError("no", errno=1)
        for name in names:
            self.links.pop(name, None)

    def find(self, endpoint: Any) -> Any:
        if isinstance(endpoint, EndpointRequest):
            return self.find_pod(endpoint)
        return self.links.get(endpoint.ifname, 0)

    def check(self, endpoint: Endpoint) -> str:
        return "" if endpoint.ifname in self.links else "gone"

    def attachments(self) -> dict[str, str]:
        return {host_name(a): a for a in self.asked if host_name(a) in self.links}

    def sweep(self, keep: Any) -> list[str]:
        gone = [n for n in self.links if n not in set(keep)]
        for name in gone:
            del self.links[name]
        return gone

    # Hooks

    def allocate(self, request: AddressRequest) -> AddressPair:
        self.step("allocate", ExhaustedError("no address left"))
        wanted = request.wanted.ipv4 if request.wanted else None
        address = wanted or next(
            a for n in range(2, 99) if (a := IPv4Address(f"10.0.0.{n}")) not in self.addresses
        )
        self.addresses[address] = request.owner
        return AddressPair(address, None)

    def release(self, addresses: AddressPair, owner: str) -> None:
        assert addresses.ipv4 is not None
        assert self.addresses.pop(addresses.ipv4) == owner

    def configure(self, endpoint: Endpoint, settings: InterfaceSettings) -> None:
        self.step("configure", AxonemeError("plugin says no"))
        settings.mtu = 1450

    def changed(self, endpoint: Endpoint) -> None:
        self.told.append(f"changed {endpoint.name}")

    def removed(self, endpoint: Endpoint) -> None:
        self.told.append(f"removed {endpoint.name}")

    # Pods

    async def find_pod(self, request: EndpointRequest) -> Pod | None:
        self.step("find", NotReadyError("no pod"))
        return Pod(request.namespace, request.pod, "u", "n1")

    def labels(self, endpoint: Endpoint) -> LabelSet | None:
        self.order.append("labels")
        return None if self.fail == "labels" else self.labels_now

    def pod(self, endpoint: Endpoint) -> Pod | None:
        return Pod(endpoint.namespace, endpoint.pod, "u", "n1")

    # Policy and files

    def hold(self, identity: int) -> None:
        """Nobody asks here."""

    async def realised(self) -> None:
        """All is, at once."""

    async def wait_for(self, identity: int) -> int:
        self.step("policy", DatapathError("does not fit"))
        await self.gate_open.wait()
        self.policies.append(identity)
        return 3

    def save(self, saved: Any) -> None:
        self.step("save", AxonemeError("disk full"))
        self._save(saved)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.store = FolderStore(folder / "store")
        self.kernel = Kernel(folder / "endpoints")
        self.again()

    def again(self) -> None:
        """A new agent over the same kernel and files."""
        tables = TableRegistry()
        numbers = identity_table(tables)
        self.identities = IdentityAllocator(numbers, IdentityMaker(self.store, numbers))
        attachments: Table[Any, Attachment] = Table("attachments", Attachment, attachment_key)
        self.realizer = Realizer(
            address_table(tables),
            interface_table(tables),
            attachments,
            Ipcache(ipcache_table(tables)),
            lambda: self.kernel,
        )
        kernel: Any = self.kernel
        self.manager = EndpointManager(
            EndpointParts(
                endpoint_table(tables),
                identities=self.identities,
                realizer=self.realizer,
                links=kernel,
                files=kernel.files,
                hooks=kernel,
                pods=kernel,
                node=NodeFacts(True, False, lambda: 1500, lambda: [IPv4Address("10.0.0.1")]),
                published=lambda: self.store.list(KIND),
            )
        )
        self.manager.accepting = True

    def nothing_left(self) -> bool:
        realizer = self.realizer
        tables = (realizer.addresses, realizer.interfaces, realizer.attachments)
        return not (
            self.kernel.links
            or self.kernel.addresses
            or len(self.manager.table)
            or any(len(t) for t in tables)
            or len(realizer.ipcache.table)
            or self.identities.in_use
            or self.kernel.files.load()
        )


def run(folder: Path, work: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(folder)
        async with asyncio.timeout(20):
            await work(bench)
        bench.manager.close()
        await bench.store.close()

    asyncio.run(main())


def request(
    pod: str = "web", container: str = "c1", netns: str = "/proc/self/ns/net"
) -> EndpointRequest:
    return EndpointRequest(container, "eth0", netns, "shop", pod)


@pytest.mark.parametrize("step", STEPS)
def test_failure_of_any_step_undoes_everything(tmp_path: Path, step: str) -> None:
    """Address, identity, link, rows, state file: nothing survives, and the next try works."""

    async def work(bench: Bench) -> None:
        bench.kernel.fail = step
        with pytest.raises(AxonemeError):
            await bench.manager.add(request())
        assert step in bench.kernel.order
        assert bench.nothing_left()
        bench.kernel.fail = ""
        endpoint = await bench.manager.add(request())
        assert (endpoint.state, endpoint.mtu, endpoint.policy_revision) == ("ready", 1450, 3)

    run(tmp_path, work)


def test_the_pods_end_comes_up_last(tmp_path: Path) -> None:
    """No packet before the policy is in the kernel: set-up waits for the gate."""

    async def work(bench: Bench) -> None:
        bench.kernel.gate_open.clear()
        task = asyncio.ensure_future(bench.manager.add(request()))
        await asyncio.sleep(0.1)
        assert bench.kernel.links
        assert not bench.kernel.up
        bench.kernel.gate_open.set()
        await task
        assert bench.kernel.order.index("policy") < bench.kernel.order.index("set_up")

    run(tmp_path, work)


def test_del_that_overtakes_waits_and_wins(tmp_path: Path) -> None:
    """A DEL during its ADD runs after it and leaves nothing."""

    async def work(bench: Bench) -> None:
        bench.kernel.gate_open.clear()
        adding = asyncio.ensure_future(bench.manager.add(request()))
        await asyncio.sleep(0.05)
        removing = asyncio.ensure_future(bench.manager.remove("c1:eth0"))
        await asyncio.sleep(0.05)
        assert not removing.done()
        bench.kernel.gate_open.set()
        await adding
        assert await removing
        assert not await bench.manager.remove("c1:eth0")
        assert bench.nothing_left()
        assert bench.kernel.told == ["changed shop/web", "removed shop/web"]

    run(tmp_path, work)


def test_cancelled_add_leaves_nothing(tmp_path: Path) -> None:
    """A runtime that hangs up in the middle of an ADD costs nothing."""

    async def work(bench: Bench) -> None:
        bench.kernel.gate_open.clear()
        task = asyncio.ensure_future(bench.manager.add(request()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bench.nothing_left()

    run(tmp_path, work)


def test_second_container_of_a_pod(tmp_path: Path) -> None:
    """Refused while the first one's namespace lives; taken when it is gone."""

    async def work(bench: Bench) -> None:
        await bench.manager.add(request())
        with pytest.raises(ConflictError, match="delete the other container"):
            await bench.manager.add(request(container="c2"))
        await bench.manager.remove("c1:eth0")
        await bench.manager.add(request(container="c3", netns="/run/netns/axot-no-such"))
        found = await bench.manager.add(request(container="c4"))
        assert [e.id for e in bench.manager.table.rows()] == [found.id]

    run(tmp_path, work)


def test_restart_restores_and_sweeps(tmp_path: Path) -> None:
    """Endpoints come back with all they had; what has no link is dropped; strays go."""

    async def work(bench: Bench) -> None:
        first = await bench.manager.add(request())
        lost = await bench.manager.add(request("lost", "c2"))
        del bench.kernel.links[lost.ifname]
        bench.kernel.links["axo0000000000"] = 99
        bench.kernel.addresses.clear()
        bench.manager.close()
        bench.again()
        assert await bench.manager.restore() == 1
        (row,) = bench.manager.table.rows()
        assert (row.state, row.id, row.identity) == ("restoring", first.id, first.identity)
        assert set(bench.kernel.links) == {first.ifname}
        assert bench.realizer.addresses.get(first.ipv4) is not None  # type: ignore[arg-type]
        await bench.manager.finish_restore()
        assert bench.manager.by_pod("shop", "web").state == "ready"  # type: ignore[union-attr]
        assert bench.kernel.policies[-1] == first.identity
        again = await bench.manager.add(request("other", "c3"))
        assert again.id != first.id
        assert again.ipv4 != first.ipv4

    run(tmp_path, work)


def test_failed_change_of_identity_keeps_the_old_one(tmp_path: Path) -> None:
    """A new policy that does not fit leaves the endpoint under the one in force."""

    async def work(bench: Bench) -> None:
        before = await bench.manager.add(request())
        bench.kernel.labels_now = LabelSet.parse(["k8s:app=other"])
        bench.kernel.fail = "policy"
        with pytest.raises(DatapathError):
            await bench.manager.refresh(before.id, 0)
        row = bench.manager.by_pod("shop", "web")
        assert row is not None
        assert (row.identity, row.labels) == (before.identity, before.labels)
        assert bench.identities.in_use == {before.identity}
        bench.kernel.fail = ""
        await bench.manager.refresh(before.id, 0)
        row = bench.manager.by_pod("shop", "web")
        assert row is not None
        assert row.identity != before.identity
        assert bench.identities.in_use == {row.identity}
        assert bench.realizer.interfaces.get(row.ifindex).identity == row.identity  # type: ignore[union-attr]

    run(tmp_path, work)


def test_gc_removes_what_the_runtime_has_forgotten(tmp_path: Path) -> None:
    """Only attachments that are named stay."""

    async def work(bench: Bench) -> None:
        await bench.manager.add(request())
        await bench.manager.add(request("db", "c2"))
        assert await bench.manager.gc(["c2:eth0"]) == ["c1:eth0"]
        assert [e.pod for e in bench.manager.table.rows()] == ["db"]

    run(tmp_path, work)


def test_del_answers_before_the_link_is_gone(tmp_path: Path) -> None:
    """Cut off and forgotten at once; address, id and attachment are free when the link is gone."""

    async def work(bench: Bench) -> None:
        first = await bench.manager.add(request())
        bench.kernel.fail = "remove"
        assert await bench.manager.remove("c1:eth0")
        realizer = bench.realizer
        assert not (len(realizer.addresses) or len(realizer.interfaces))
        assert len(realizer.attachments) == 2, "programs drop what the link still brings"
        assert not bench.kernel.files.load()
        assert bench.manager.by_pod("shop", "web") is None
        await asyncio.sleep(0.05)
        other = await bench.manager.add(request("db", "c2"))
        assert other.ipv4 != first.ipv4
        assert other.id != first.id
        again = asyncio.ensure_future(bench.manager.add(request()))
        await asyncio.sleep(0.05)
        assert not again.done()
        bench.kernel.fail = ""
        assert (await again).attachment_id == "c1:eth0"
        assert bench.kernel.told.index("removed shop/web") < bench.kernel.told.index(
            "changed shop/web", 1
        )

    run(tmp_path, work)


def test_add_waits_for_what_is_on_its_way_out(tmp_path: Path) -> None:
    """A full pool is no error while an address is about to be free."""

    async def work(bench: Bench) -> None:
        await bench.manager.add(request())
        allocate = bench.kernel.allocate

        def one_address(asked: AddressRequest) -> AddressPair:
            if bench.kernel.addresses:
                raise ExhaustedError("full")
            return allocate(asked)

        bench.kernel.allocate = one_address  # type: ignore[method-assign,assignment]
        with pytest.raises(ExhaustedError):
            await bench.manager.add(request("db", "c2"))
        await bench.manager.remove("c1:eth0")
        assert bench.kernel.addresses
        await bench.manager.add(request("db", "c2"))

    run(tmp_path, work)


def test_not_before_ready(tmp_path: Path) -> None:
    """Requests to a starting agent are to be tried again."""

    async def work(bench: Bench) -> None:
        bench.manager.accepting = False
        with pytest.raises(NotReadyError):
            await bench.manager.add(request())

    run(tmp_path, work)


def test_given_address_must_be_free(tmp_path: Path) -> None:
    """An address that the runtime chose is never taken from another endpoint, or back by us."""

    async def work(bench: Bench) -> None:
        pair = AddressPair(IPv4Address("10.9.9.9"), None)
        await bench.manager.add(EndpointRequest("c1", "eth0", "/run/x", "a", "b", addresses=pair))
        with pytest.raises(ConflictError, match=r"10\.9\.9\.9"):
            await bench.manager.add(
                EndpointRequest("c2", "eth0", "/run/y", "a", "c", addresses=pair)
            )
        assert len(bench.manager.table) == 1
        await bench.manager.remove("c1:eth0")
        await bench.manager.drain()
        assert bench.nothing_left()

    run(tmp_path, work)


def test_label_that_changes_during_an_add_is_taken_over(tmp_path: Path) -> None:
    """The ADD has read the labels already, and there is no row yet that a change could find."""

    async def work(bench: Bench) -> None:
        pods, namespaces = pod_tables(TableRegistry())
        directory = PodDirectory(
            pods,
            namespaces,
            labeller=PodLabeller("c", LabelFilter.from_option()),
            relabel=lambda _, labels: labels,
        )
        bench.manager.parts.pods = directory
        refresher = EndpointRefresher(directory, bench.manager, grace=0)
        namespaces.upsert(Namespace("shop"))
        pods.upsert(Pod("shop", "web", "u", "n1", labels=(("app", "web"),)))
        await asyncio.sleep(0)
        bench.kernel.gate_open.clear()
        hold, entered, leave = bench.kernel.make, threading.Event(), threading.Event()

        def make(asked: EndpointRequest, settings: InterfaceSettings) -> MadeLink:
            entered.set()
            leave.wait(5)
            return hold(asked, settings)

        bench.kernel.make = make  # type: ignore[method-assign,assignment]
        adding = asyncio.ensure_future(bench.manager.add(request()))
        await asyncio.to_thread(entered.wait, 5)
        pods.upsert(Pod("shop", "web", "u", "n1", labels=(("app", "quarantine"),)))
        await asyncio.sleep(0)
        leave.set()
        bench.kernel.gate_open.set()
        number = (await adding).id
        for _ in range(200):
            if bench.manager.parts.get(number).labels.get("k8s", "app") == "quarantine":
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("the change is lost")
        await refresher.stop()

    run(tmp_path, work)


def by_objects(bench: Bench) -> PodDirectory:
    """Labels from tables of pods and namespaces, with namespace ``shop`` in it."""
    directory = PodDirectory(
        *pod_tables(TableRegistry()),
        labeller=PodLabeller("c", LabelFilter.from_option()),
        relabel=lambda _, labels: labels,
    )
    directory.namespaces.upsert(Namespace("shop"))
    bench.manager.parts.pods = directory
    return directory


def test_endpoint_never_takes_labels_of_another_pod_of_its_name(tmp_path: Path) -> None:
    """A pod deleted by force lives on for a while; its successor has nothing to do with it."""

    async def work(bench: Bench) -> None:
        directory = by_objects(bench)
        directory.pods.upsert(Pod("shop", "web", "u1", "n1", labels=(("app", "web"),)))
        before = await bench.manager.add(request())
        directory.pods.upsert(Pod("shop", "web", "u2", "n1", labels=(("app", "admin"),)))
        await bench.manager.refresh(before.id, 0)
        after = bench.manager.parts.get(before.id)
        assert (after.labels, after.identity) == (before.labels, before.identity)
        directory.pods.upsert(Pod("shop", "web", "u1", "n1", labels=(("app", "other"),)))
        await bench.manager.refresh(before.id, 0)
        assert bench.manager.parts.get(before.id).labels.get("k8s", "app") == "other"

    run(tmp_path, work)


def test_a_static_pod_goes_by_the_uid_that_its_kubelet_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its object has a uid of its own, another one each time that somebody deletes it."""

    async def work(bench: Bench) -> None:
        directory = by_objects(bench)
        monkeypatch.setattr(podsource, "PATIENCE", 0.1)

        def mirror(uid: str, app: str, of: str) -> Pod:
            notes = (("kubernetes.io/config.mirror", of),)
            return Pod("shop", "web", uid, "n1", labels=(("app", app),), annotations=notes)

        asked = evolve(request(), uid="static")
        directory.pods.upsert(mirror("u1", "web", "another"))
        with pytest.raises(NotReadyError):
            await bench.manager.add(asked)
        directory.pods.upsert(mirror("u1", "web", "static"))
        made = await bench.manager.add(asked)
        for uid, of, expected in (("u2", "static", "new"), ("u3", "another", "new")):
            directory.pods.upsert(mirror(uid, "new" if uid == "u2" else "wrong", of))
            await bench.manager.refresh(made.id, 0)
            assert bench.manager.parts.get(made.id).labels.get("k8s", "app") == expected

    run(tmp_path, work)


def test_identity_of_an_endpoint_is_in_use_whatever_fails(tmp_path: Path) -> None:
    """In force, but not written down: the number counts as the endpoint's all the same."""

    async def work(bench: Bench) -> None:
        endpoint = await bench.manager.add(request())
        for fail, app in (("save", "a"), ("policy", "b"), ("", "c")):
            bench.kernel.fail = fail
            bench.kernel.labels_now = LabelSet.parse([f"k8s:app={app}"])
            if fail:
                with pytest.raises(AxonemeError):
                    await bench.manager.refresh(endpoint.id, 0)
            else:
                await bench.manager.refresh(endpoint.id, 0)
            now = bench.manager.parts.get(endpoint.id)
            assert bench.identities.in_use == {now.identity}
            assert bench.identities.labels_of(now.identity) == now.labels
        bench.kernel.fail = ""
        await bench.manager.remove("c1:eth0")
        await bench.manager.drain()
        assert bench.nothing_left()

    run(tmp_path, work)


def test_restore_waits_for_no_identity_that_nobody_makes(tmp_path: Path) -> None:
    """Where the operator makes them: of a pod that is gone, or that has other labels by now."""

    async def work(bench: Bench) -> None:
        directory = by_objects(bench)
        for name in ("gone", "changed", "same"):
            directory.pods.upsert(Pod("shop", name, name, "n1", labels=(("app", name),)))
        made = {n: await bench.manager.add(request(n, n)) for n in ("gone", "changed", "same")}
        bench.manager.close()
        bench.kernel.addresses.clear()
        bench.again()
        numbers = bench.identities.table
        bench.identities.numbers = IdentityFollower(numbers, patience=5)
        directory = by_objects(bench)
        for name in ("changed", "same"):
            label = ("app", "new" if name == "changed" else name)
            directory.pods.upsert(Pod("shop", name, name, "n1", labels=(label,)))
        restoring = asyncio.ensure_future(bench.manager.restore())
        await asyncio.sleep(0.05)
        new = LabelSet.of(
            [x for x in made["changed"].labels if x.key != "app"] + [Label("k8s", "app", "new")]
        )
        numbers.upsert(Identity(401, new))  # in whatever order they are restored
        numbers.upsert(Identity(402, made["same"].labels))
        assert await restoring == 2
        found = {e.pod: (e.identity, e.labels) for e in bench.manager.table.rows()}
        assert found == {"changed": (401, new), "same": (402, made["same"].labels)}
        assert bench.identities.in_use == {401, 402}
        assert set(bench.kernel.links) == {made[n].ifname for n in ("changed", "same")}
        assert len(bench.kernel.addresses) == 2
        assert len(bench.kernel.files.load()) == 2

    run(tmp_path, work)


def test_endpoint_leaves_an_identity_that_went_to_other_labels(tmp_path: Path) -> None:
    """Its number is a password for somebody else now: it gets another one, without the grace."""

    async def work(bench: Bench) -> None:
        pods, namespaces = pod_tables(TableRegistry())
        directory = PodDirectory(
            pods,
            namespaces,
            labeller=PodLabeller("c", LabelFilter.from_option()),
            relabel=lambda _, labels: labels,
        )
        refresher = EndpointRefresher(directory, bench.manager, grace=60)
        before = await bench.manager.add(request())
        table = bench.identities.table
        reflector = Reflector(bench.store, "CiliumIdentity", table, bench.identities.decode)
        following = asyncio.ensure_future(reflector.run())
        await table.initialized.wait()
        other = LabelSet.parse(["k8s:app=admin"])
        await bench.store.delete(ObjectKey("CiliumIdentity", "", str(before.identity)))
        await bench.store.create(encode_identity(before.identity, other))
        for _ in range(300):
            number = bench.manager.parts.get(before.id).identity
            if number != before.identity:
                break
            await asyncio.sleep(0.01)
        assert number != before.identity
        assert bench.identities.labels_of(number) == before.labels
        assert bench.identities.labels_of(before.identity) == other
        assert bench.identities.in_use == {number}
        await refresher.stop()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    run(tmp_path, work)


def test_del_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    """A change of labels that spreads is given up when the pod goes."""

    async def work(bench: Bench) -> None:
        endpoint = await bench.manager.add(request())
        bench.kernel.labels_now = LabelSet.parse(["k8s:app=other"])
        changing = asyncio.ensure_future(bench.manager.refresh(endpoint.id, 1.0))
        await asyncio.sleep(0.2)
        assert len(bench.identities.in_use) == 2
        async with asyncio.timeout(0.5):
            await bench.manager.remove("c1:eth0")
        await changing
        assert bench.nothing_left()

    run(tmp_path, work)


def test_pod_waits_for_its_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the namespace's labels it would have an identity that policies do not mean."""

    async def work(bench: Bench) -> None:
        pods, namespaces = pod_tables(TableRegistry())
        bench.manager.parts.pods = PodDirectory(
            pods,
            namespaces,
            labeller=PodLabeller("c", LabelFilter.from_option()),
            relabel=lambda _, labels: labels,
        )
        pods.upsert(Pod("shop", "web", "u", "n1"))
        monkeypatch.setattr(podsource, "PATIENCE", 0.1)
        with pytest.raises(NotReadyError, match="namespace shop"):
            await bench.manager.add(request())
        assert bench.nothing_left()
        monkeypatch.setattr(podsource, "PATIENCE", 5.0)
        adding = asyncio.ensure_future(bench.manager.add(request()))
        await asyncio.sleep(0.05)
        namespaces.upsert(Namespace("shop", (("team", "red"),)))
        labels = (await adding).labels
        assert labels.get("k8s", "io.cilium.k8s.namespace.labels.team") == "red"
        namespaces.delete("shop")
        await bench.manager.refresh(1, 0)
        assert bench.manager.table.rows()[0].labels == labels

    run(tmp_path, work)


def test_restart_goes_on_where_ids_and_addresses_were(tmp_path: Path) -> None:
    """A new pod never gets what a dead one had just before: conntrack may still know it."""

    async def work(bench: Bench) -> None:
        pool = AddressPool(IPv4Network("10.0.0.0/24"))

        def allocate(asked: AddressRequest) -> AddressPair:
            wanted = asked.wanted.ipv4 if asked.wanted else None
            got = pool.claim(wanted, asked.owner) if wanted else pool.allocate(asked.owner)
            assert isinstance(got, IPv4Address)
            return AddressPair(got, None)

        def release(pair: AddressPair, owner: str) -> None:
            assert pair.ipv4 is not None
            pool.release(pair.ipv4, owner)

        bench.kernel.allocate = allocate  # type: ignore[method-assign,assignment]
        bench.kernel.release = release  # type: ignore[method-assign,assignment]
        await bench.manager.add(request("old", "c1"))
        dead = await bench.manager.add(request("dead", "c2"))
        await bench.manager.remove("c2:eth0")
        await bench.manager.drain()
        for pod in ("next", "last"):
            bench.manager.close()
            bench.again()
            pool = AddressPool(IPv4Network("10.0.0.0/24"))
            await bench.manager.restore()
            made = await bench.manager.add(request(pod, f"c-{pod}"))
            assert (made.id, made.ipv4) > (dead.id, dead.ipv4)
            dead = made

    run(tmp_path, work)


def test_an_add_waits_for_addresses_that_were_asked_for(tmp_path: Path) -> None:
    """Each piece of news is a new try; in the end the reason is the plugin's last one."""

    async def work(bench: Bench) -> None:
        plain, said = bench.kernel.allocate, ["one", "two"]

        async def news() -> None:
            await asyncio.sleep(0.01)

        def later(request: AddressRequest) -> AddressPair:
            if said:
                raise PendingError(f"no address: {said.pop(0)}", news)
            return plain(request)

        bench.kernel.allocate = later  # type: ignore[method-assign]
        made = await bench.manager.add(request("patient", "c1"))
        assert made.ipv4 and not said

        async def silence() -> None:
            await asyncio.sleep(3600)

        words = iter(("asked", "the operator has none"))

        def never(request: AddressRequest) -> AddressPair:
            raise PendingError(f"no address: {next(words)}", silence)

        bench.kernel.allocate = never  # type: ignore[method-assign]
        with pytest.raises(PendingError, match="the operator has none"):
            await bench.manager.add(request("late", "c2"))
        assert [e.pod for e in bench.manager.table.rows()] == ["patient"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager_module, "ADDRESS_SECONDS", 0.2)
        run(tmp_path, work)


@pytest.mark.parametrize("text", ['{"version":2}', "\x00garbage", '{"version":9,"ifname":"%s"}'])
def test_bad_state_file_cuts_no_pod(tmp_path: Path, text: str) -> None:
    """The endpoint is rebuilt from its object; without one its link stays at least."""

    async def work(bench: Bench) -> None:
        endpoint = await bench.manager.add(request())
        body = encode_status(endpoint, None, None)
        metadata = encode_metadata(endpoint, "", {})
        path = bench.kernel.files.folder / f"{endpoint.id}.json"
        path.write_text(text.replace("%s", endpoint.ifname))
        bench.manager.close()
        bench.kernel.addresses.clear()
        bench.again()
        assert await bench.manager.restore() == 0
        assert endpoint.ifname in bench.kernel.links
        await bench.store.create(
            {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": body}
        )
        bench.manager.close()
        bench.again()
        assert await bench.manager.restore() == 1
        (row,) = bench.manager.table.rows()
        for field in ("id", "pod", "ipv4", "identity", "labels", "ifindex", "attachment_id"):
            assert getattr(row, field) == getattr(endpoint, field)
        assert not bench.kernel.files.refused()
        assert [s.endpoint.id for s in bench.kernel.files.load()] == [endpoint.id]

    run(tmp_path, work)


def test_kernel_that_does_not_answer_cuts_no_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked a few times; then file and link stay for the next start."""

    async def work(bench: Bench) -> None:
        endpoint = await bench.manager.add(request())
        monkeypatch.setattr(restore, "backoff", lambda _: 0.01)
        find, failures = bench.kernel.find, 0

        def flaky(asked: Any) -> Any:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise NetlinkError("no buffer", errno=105)
            return find(asked)

        bench.kernel.find = flaky  # type: ignore[method-assign,assignment]
        for times, expected in ((99, 0), (2, 1)):
            failures = times
            bench.manager.close()
            bench.kernel.addresses.clear()
            bench.again()
            assert await bench.manager.restore() >= expected
            assert endpoint.ifname in bench.kernel.links
            assert (bench.manager.by_attachment("c1:eth0") is not None) == bool(expected)
            failures = 0
            other = await bench.manager.add(request(f"other-{times}", f"c-{times}"))
            assert other.id != endpoint.id
            assert other.ipv4 != endpoint.ipv4

    run(tmp_path, work)
