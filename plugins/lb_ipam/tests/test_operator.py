"""LB-IPAM in a real operator, over a folder of manifests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from axoneme.core.errors import NotFoundError
from axoneme.core.model.objects import ObjectKey
from axoneme.core.operator.balancers import SATISFIED, BalancerService
from axoneme.core.testing.operators import OperatorBench, eventually
from axoneme.plugins.lb_ipam.controller import LoadBalancerIpam
from axoneme.plugins.lb_ipam.sharing import why_not
from axoneme.plugins.lb_ipam.status import AVAILABLE, CONFLICT, INVALID, TOTAL, USED

POOL = "CiliumLoadBalancerIPPool"


def pool(name: str, blocks: str, more: str = "", version: str = "v2") -> str:
    return f"""
apiVersion: cilium.io/{version}
kind: {POOL}
metadata: {{name: {name}}}
spec: {{blocks: [{blocks}] {more}}}
"""


def service(name: str, more: str = "", annotations: str = "", kind: str = "LoadBalancer") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default, annotations: {{{annotations}}}}}
spec: {{type: {kind}, ports: [{{port: 80}}] {more}}}
"""


BOTH = ", ipFamilies: [IPv4, IPv6], ipFamilyPolicy: RequireDualStack"


def run(work: Callable[[OperatorBench], Awaitable[None]], folder: Path) -> None:
    asyncio.run(asyncio.wait_for(work(OperatorBench(folder)), 120))


def reason(bench: OperatorBench, name: str) -> str:
    return str(bench.condition("Service", name, SATISFIED).get("reason", ""))


def counts(bench: OperatorBench, name: str) -> list[str]:
    return [bench.condition(POOL, name, k).get("message", "") for k in (TOTAL, AVAILABLE, USED)]


def test_services_get_addresses_and_pools_say_how_many_are_left(tmp_path: Path) -> None:
    """Both families, conditions on both kinds, an older API version, metrics."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(pool("blue", "{cidr: 10.0.10.0/24}, {cidr: 'fd00:10::/120'}", "", "v2alpha1"))
        async with bench.running() as operator:
            bench.apply(service("web", BOTH) + "---" + service("plain", kind="ClusterIP"))
            await eventually(lambda: bench.ingress("web") == ["10.0.10.0", "fd00:10::"])
            entries = bench.get("Service", "web").status["loadBalancer"]["ingress"]
            assert {e["ipMode"] for e in entries} == {"VIP"}
            assert bench.condition("Service", "web", SATISFIED)["status"] == "True"
            await eventually(lambda: counts(bench, "blue") == ["512", "510", "2"])
            conflict = bench.condition(POOL, "blue", CONFLICT)
            assert (conflict["status"], conflict["reason"]) == ("False", "resolved")
            assert bench.get("Service", "plain").status == {}
            text = operator.metrics.render().decode()
            assert 'cilium_operator_lbipam_ips_used{pool="blue"} 2.0' in text
            assert "cilium_operator_lbipam_services_matching 1.0" in text
            bench.store.delete(bench.get("Service", "web").key)
            await eventually(lambda: counts(bench, "blue") == ["512", "512", "0"])

    run(work, tmp_path)


def test_it_sleeps_until_there_is_a_pool(tmp_path: Path) -> None:
    """No condition on anything before; what waits is served when one comes."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(service("web"))
        async with bench.running() as operator:
            ipam = operator.services.get(LoadBalancerIpam)
            await eventually(lambda: ipam.allocator.waiting and not ipam.queue)
            assert bench.get("Service", "web").status == {}
            bench.apply(pool("other", "{cidr: 10.0.0.0/24}",
                             ", serviceSelector: {matchLabels: {a: b}}"))  # fmt: skip
            await eventually(lambda: reason(bench, "web") == "no_pool")
            bench.apply(pool("p", "{start: 10.1.0.7}"))
            await eventually(lambda: bench.ingress("web") == ["10.1.0.7"])
            assert reason(bench, "web") == "satisfied"

    run(work, tmp_path)


def test_classes_decide_who_serves(tmp_path: Path) -> None:
    """No class follows the key; Cilium's two are ours; others are left alone."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(pool("p", "{cidr: 10.0.0.0/24}"))
        for name in ("bgp-control-plane", "l2-announcer", "node"):
            bench.apply(service(name, f", loadBalancerClass: io.cilium/{name}"))
        bench.apply(service("foreign", ", loadBalancerClass: example.com/x"))
        bench.apply(service("none"))
        async with bench.running(default_lb_service_ipam="none"):
            await eventually(lambda: bench.ingress("bgp-control-plane") == ["10.0.0.0"])
            await eventually(lambda: bench.ingress("l2-announcer") == ["10.0.0.1"])
        for name in ("node", "foreign", "none"):
            assert bench.get("Service", name).status == {}
        async with bench.running():
            await eventually(lambda: bench.ingress("none") == ["10.0.0.2"])

    run(work, tmp_path)


def test_a_restart_moves_nothing(tmp_path: Path) -> None:
    """What stands in the statuses is adopted, and what happened meanwhile is made up for."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(pool("p", "{cidr: 10.0.0.0/29}, {cidr: 10.1.0.0/29}"))
        names = [f"s{i}" for i in range(9)]
        async with bench.running():
            for name in names:
                bench.apply(service(name))
            await eventually(lambda: all(bench.ingress(n) for n in names))
        before = {n: bench.ingress(n) for n in names}
        first = min(names, key=lambda n: before[n])
        bench.store.delete(bench.get("Service", first).key)
        bench.apply(service("late"))
        async with bench.running():
            await eventually(lambda: bench.ingress("late") == before[first])
        rest = [n for n in names if n != first]
        assert {n: bench.ingress(n) for n in rest} == {n: before[n] for n in rest}

    run(work, tmp_path)


def test_who_leaves_is_cleaned_up_and_others_entries_stay(tmp_path: Path) -> None:
    """Another type while we run, another class while we do not; host names are not ours."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(pool("p", "{cidr: 10.0.0.0/24}"))
        bench.apply(service("a") + "---" + service("b"))
        theirs = {"loadBalancer": {"ingress": [{"hostname": "lb.example"}, {"ip": "192.0.2.1"}]}}
        bench.store.update_status(bench.get("Service", "a").key, theirs)
        async with bench.running():
            await eventually(lambda: len(bench.ingress("a")) == 3 and bench.ingress("b"))
            address = bench.ingress("a")[2]
            bench.apply(service("a", kind="ClusterIP"))
            await eventually(lambda: bench.ingress("a") == ["lb.example", "192.0.2.1"])
            assert reason(bench, "a") == ""
            bench.apply(service("c", annotations=f"lbipam.cilium.io/ips: {address}"))
            await eventually(lambda: bench.ingress("c") == [address])
        bench.apply(service("b", ", loadBalancerClass: example.com/x"))
        async with bench.running():
            await eventually(lambda: bench.ingress("b") == [])
        assert "conditions" not in bench.get("Service", "b").status

    run(work, tmp_path)


def test_wishes_and_sharing_by_annotation(tmp_path: Path) -> None:
    """Old names and new ones; what cannot be given, or read, is said with its field."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(pool("p", "{cidr: 10.0.0.0/24}"))
        bench.apply(service("two", annotations="lbipam.cilium.io/ips: '10.0.0.9, 10.0.0.8'"))
        bench.apply(service("old", ", loadBalancerIP: 10.0.0.7"))
        bench.apply(service("both", ", loadBalancerIP: 10.0.0.4", "lbipam.cilium.io/ips: 10.0.0.5"))
        bench.apply(service("bad", annotations="lbipam.cilium.io/ips: '10.0.0.300'"))
        key = "io.cilium/lb-ipam-sharing-key: k"
        bench.apply(service("x", annotations=f"{key}, io.cilium/lb-ipam-ips: 10.0.0.6"))
        async with bench.running():
            await eventually(lambda: bench.ingress("two") == ["10.0.0.9", "10.0.0.8"])
            await eventually(lambda: bench.ingress("old") == ["10.0.0.7"])
            await eventually(lambda: bench.ingress("both") == ["10.0.0.4", "10.0.0.5"])
            await eventually(lambda: bench.ingress("x") == ["10.0.0.6"])
            await eventually(lambda: reason(bench, "bad") == "invalid_ip")
            message = bench.condition("Service", "bad", SATISFIED)["message"]
            assert "metadata.annotations.lbipam.cilium.io/ips: '10.0.0.300'" in message
            ports = service("y", annotations="lbipam.cilium.io/sharing-key: k")
            bench.apply(ports.replace("port: 80", "port: 81"))
            await eventually(lambda: bench.ingress("y") == ["10.0.0.6"])
            bench.apply(service("z", annotations="lbipam.cilium.io/ips: 10.0.0.7"))
            await eventually(lambda: reason(bench, "z") == "already_allocated")
            bench.store.delete(bench.get("Service", "old").key)
            await eventually(lambda: bench.ingress("z") == ["10.0.0.7"])

    run(work, tmp_path)


def test_a_conflict_is_told_at_the_younger_pool(tmp_path: Path) -> None:
    """The older one goes on; when it is gone the conflict is too."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(pool("a", "{cidr: 10.0.0.0/24}"))
        bench.apply(pool("b", "{cidr: 10.0.0.128/25}, {cidr: 10.1.0.0/24}"))
        async with bench.running():
            await eventually(lambda: bench.condition(POOL, "b", CONFLICT).get("status") == "True")
            told = bench.condition(POOL, "b", CONFLICT)
            assert told["reason"] == "cidr_overlap" and "of pool a" in told["message"]
            assert bench.condition(POOL, "a", CONFLICT)["status"] == "False"
            bench.apply(service("s", annotations="lbipam.cilium.io/ips: 10.1.0.5"))
            await eventually(lambda: reason(bench, "s") == "no_pool")
            bench.store.delete(bench.get(POOL, "a").key)
            await eventually(lambda: bench.ingress("s") == ["10.1.0.5"])
            await eventually(lambda: bench.condition(POOL, "b", CONFLICT)["status"] == "False")

    run(work, tmp_path)


@pytest.mark.parametrize(
    ("blocks", "more", "field"),
    [
        ("{cidr: 10.0.0.0/33}", "", "spec.blocks[0].cidr"),
        ("{cidr: 10.0.0.0/24}, {start: nonsense}", "", "spec.blocks[1].start"),
        ("{start: 10.0.0.9, stop: 10.0.0.1}", "", "spec.blocks[0].stop"),
        ("{start: 10.0.0.9, stop: 'fd00::1'}", "", "spec.blocks[0].stop"),
        ("{stop: 10.0.0.9}", "", "spec.blocks[0]"),
        ("", ", allowFirstLastIPs: maybe", "spec.allowFirstLastIPs"),
        ("", ", disabled: 3", "spec.disabled"),
        ("", ", serviceSelector: {matchLabels: {a: 1}}", "spec.serviceSelector.matchLabels.a"),
        ("", ", serviceSelector: {matchExpressions: [{key: a, operator: Gt}]}",
         "spec.serviceSelector.matchExpressions[0].operator"),
    ],
)  # fmt: skip
def test_a_bad_pool_is_told_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, blocks: str, more: str, field: str
) -> None:
    """Its status and the log name the field; other pools serve; its last good version counts."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(pool("p", "{start: 10.9.0.1}"))
        async with bench.running():
            bench.apply(service("a"))
            await eventually(lambda: bench.ingress("a") == ["10.9.0.1"])
            bench.apply(pool("p", blocks, more))
            bench.apply(pool("good", "{cidr: 10.5.0.0/24}"))
            bench.apply(service("b"))
            await eventually(lambda: bench.ingress("b") == ["10.5.0.0"])
            await eventually(lambda: bench.condition(POOL, "p", INVALID).get("status") == "True")
            assert field + ":" in bench.condition(POOL, "p", INVALID)["message"]
            assert bench.ingress("a") == ["10.9.0.1"]
        async with bench.running():  # which never saw the good version
            bench.apply(service("c"))
            await eventually(lambda: bench.ingress("c") == ["10.5.0.1"])
            assert bench.ingress("a") == ["10.9.0.1"]
            bench.apply(pool("p", "{start: 10.9.0.1}"))
            await eventually(lambda: not bench.condition(POOL, "p", INVALID))
            assert bench.ingress("a") == ["10.9.0.1"]

    with caplog.at_level(logging.WARNING):
        run(work, tmp_path)
    assert any(field in str(getattr(r, "error", "")) for r in caplog.records)


def test_a_service_with_a_bad_field_keeps_its_address(tmp_path: Path) -> None:
    """Also over a restart: nobody else gets it."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(pool("p", "{cidr: 10.0.0.0/24}"))
        async with bench.running():
            bench.apply(service("a"))
            await eventually(lambda: bench.ingress("a") == ["10.0.0.0"])
        bench.apply(service("a").replace("port: 80", "port: many"))
        async with bench.running():
            bench.apply(service("b"))
            await eventually(lambda: bench.ingress("b") == ["10.0.0.1"])
            await eventually(lambda: reason(bench, "a") == "invalid_spec")
            assert "spec.ports[0].port" in bench.condition("Service", "a", SATISFIED)["message"]
        assert bench.ingress("a") == ["10.0.0.0"]

    run(work, tmp_path)


def test_status_written_by_hand_is_put_right(tmp_path: Path) -> None:
    """What is in our pools is ours: the allocation is the truth, not the edit."""

    async def work(bench: OperatorBench) -> None:
        bench.apply(pool("p", "{cidr: 10.0.0.0/24}"))
        async with bench.running():
            bench.apply(service("a"))
            await eventually(lambda: bench.ingress("a") == ["10.0.0.0"])
            path = bench.store.path(bench.get("Service", "a").key)
            body = yaml.safe_load(path.read_text())
            body["status"]["loadBalancer"]["ingress"][0]["ip"] = "10.0.0.77"
            path.write_text(yaml.safe_dump(body))
            await eventually(lambda: bench.ingress("a") == ["10.0.0.0"])

    run(work, tmp_path)


def test_a_stop_that_meets_a_change_is_a_stop(tmp_path: Path) -> None:
    """The task ends although it is woken in the very moment in which it is cancelled."""

    async def work(bench: OperatorBench) -> None:
        async with bench.running() as operator:
            ipam = operator.services.get(LoadBalancerIpam)
            task = asyncio.create_task(ipam.run())
            await asyncio.sleep(0.1)
            ipam.services.upsert(BalancerService(("default", "x")))
            ipam.services.flush()
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=5)
            assert done and task.cancelled()

    run(work, tmp_path)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_happens_nobody_shows_what_another_one_has(tmp_path: Path, seed: int) -> None:
    """Services, pools and operators come and go; at every rest all statuses are right."""
    dice = random.Random(seed)

    def anything(bench: OperatorBench) -> None:
        name = f"s{dice.randrange(12)}"
        match dice.randrange(8):
            case 0:
                with contextlib.suppress(NotFoundError):
                    bench.store.delete(ObjectKey("Service", "default", name))
            case 1:
                bench.apply(service(name, kind="ClusterIP"))
            case 2:
                wish = f"10.0.0.{dice.randrange(20)}"
                bench.apply(service(name, annotations=f"lbipam.cilium.io/ips: {wish}"))
            case 3:
                first = dice.randrange(10)
                block = f"{{start: 10.0.0.{first}, stop: 10.0.0.{first + dice.randrange(8)}}}"
                off = dice.choice(["", "", ", disabled: true"])
                bench.apply(pool(dice.choice("pq"), block, off))
            case 4:
                shared = service(name, annotations="lbipam.cilium.io/sharing-key: k")
                bench.apply(shared.replace("port: 80", f"port: {80 + dice.randrange(4)}"))
            case _:
                bench.apply(service(name))

    def shown(bench: OperatorBench) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for obj in bench.store.list("Service"):
            for address in bench.ingress(obj.key.name):
                found.setdefault(address, []).append(obj.key.name)
        return found

    def at_rest(bench: OperatorBench, ipam: LoadBalancerIpam) -> bool:
        holders = ipam.allocator.holders.items()
        return shown(bench) == {str(a): sorted(n for _, n in names) for a, names in holders}

    async def work(bench: OperatorBench) -> None:
        bench.apply(pool("p", "{start: 10.0.0.0, stop: 10.0.0.9}"))
        for _ in range(4):
            async with bench.running() as operator:
                ipam = operator.services.get(LoadBalancerIpam)
                for _ in range(40):
                    anything(bench)
                    await asyncio.sleep(dice.choice([0, 0, 0.01]))
                await eventually(partial(at_rest, bench, ipam))
            for _ in range(10):
                anything(bench)  # nobody leads
            # A leader that was killed: an address stands in two statuses.
            names = [o.key.name for o in bench.store.list("Service")]
            condition = {"type": SATISFIED, "status": "True", "reason": "satisfied"}
            twin = {
                "conditions": [condition],
                "loadBalancer": {"ingress": [{"ip": "10.0.0.3", "ipMode": "VIP"}]},
            }
            for name in dice.sample(names, min(2, len(names))):
                bench.store.update_status(ObjectKey("Service", "default", name), twin)
        async with bench.running() as operator:
            ipam = operator.services.get(LoadBalancerIpam)
            await eventually(partial(at_rest, bench, ipam))
            for asker, request in ipam.allocator.requests.items():
                for address in ipam.allocator.held.get(asker, ()):
                    others = ipam.allocator.holders[address].keys() - {asker}
                    assert not any(why_not(request, ipam.allocator.requests[o]) for o in others)

    run(work, tmp_path)
