"""A cluster as a world: objects by its API server, attempts by a command in its pods."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, cast

import yaml

from axoneme.core.cluster.connect import Place
from axoneme.core.cluster.settings import view
from axoneme.core.cluster.status import AGENT
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.connectivity import workloads
from axoneme.core.connectivity.model import ALLOWED, DENIED, REFUSED, Attempt, Facts
from axoneme.core.connectivity.runner import Documents
from axoneme.core.errors import AxonemeError, NotFoundError
from axoneme.core.k8s.access import Access, open_access
from axoneme.core.k8s.exec import execute
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.model.objects import ClusterObject, ObjectKey

TIMEOUT: Final = 2.0
"""Seconds of an attempt: long enough for a lost SYN to be sent again."""
READY_SECONDS: Final = 180.0
GONE_SECONDS: Final = 90.0
SCRIPT: Final = 'printf %s "$1" | /usr/bin/python3 -ISE "$2/prober"'
HOSTS: Final = ("host-a", "host-b")


class ClusterWorld:
    """A cluster with our agents. ``external``: addresses outside that answer echoes."""

    def __init__(
        self,
        place: Place,
        registry: OptionRegistry,
        *,
        image: str = "",
        external: Sequence[str] = (),
    ) -> None:
        self.place = place
        self._loop = asyncio.new_event_loop()
        self.access: Access = self._run(open_access(place.file, context=place.context))
        self.store = KubernetesStore(self.access, qps=100, burst=200)
        self.external: dict[int, str] = {ip_address(a).version: a for a in external}
        self._pods: dict[str, ClusterObject] = {}
        self._services: dict[str, ClusterObject] = {}
        try:
            data = self._run(view(self.store, place.namespace))
            agents = self._run(self.store.get(ObjectKey("DaemonSet", place.namespace, AGENT)))
            nodes = self._run(self.store.list("Node"))
        except BaseException:
            self.close()
            raise
        config = Config.load(registry, dict(data))
        keys = {s.key: s.value for s in config.settings()}
        containers = agents.spec["template"]["spec"]["containers"]
        self.image = image or str(containers[0]["image"])
        self.nodes = {n.key.name: n for n in nodes if _is_ready(n)}
        if not self.nodes:
            raise NotFoundError("the cluster has no node that is Ready")
        self.facts = Facts(
            f"cluster {self.access.server}",
            tuple(f for f in (4, 6) if config.flag(f"enable-ipv{f}")),
            tuple(sorted(self.nodes)),
            outside=bool(self.external),
            from_outside=False,
            keys=keys,
        )

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        """Let go of connections."""
        with contextlib.suppress(Exception):
            self._run(self.store.close())
        self._loop.close()

    # Objects

    def prepare(self) -> None:
        """Apply the workloads, and a pod on each node's own network; wait until all are Ready."""
        documents = workloads.documents(self.facts.nodes, self.image, self.external)
        documents += [self._host_pod(name, index) for index, name in enumerate(HOSTS)]
        self.apply(documents)
        self._run(self._ready())

    def _host_pod(self, name: str, index: int) -> dict[str, Any]:
        nodes = self.facts.nodes
        body = workloads.meta("v1", "Pod", name, labels={"kind": "host"})
        body["spec"] = {
            "nodeName": nodes[min(index, len(nodes) - 1)],
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "c",
                    "image": self.image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "100000"],
                }
            ],
        }
        return body

    async def _ready(self) -> None:
        wanted = {*workloads.PODS, *HOSTS}
        end = time.monotonic() + READY_SECONDS
        while True:
            pods = {p.key.name: p for p in await self._listed("Pod")}
            missing = [n for n in wanted if n not in pods or not _is_ready(pods[n])]
            if not missing:
                break
            if time.monotonic() > end:
                raise AxonemeError(f"pods are not ready: {', '.join(sorted(missing))}")
            await asyncio.sleep(0.5)
        self._pods = pods
        self._services = {s.key.name: s for s in await self._listed("Service")}

    async def _listed(self, kind: str) -> list[ClusterObject]:
        found = await self.store.list(kind)
        return [o for o in found if o.key.namespace == workloads.NAMESPACE]

    def apply(self, documents: Documents) -> None:
        """Server-side apply, one after the other."""

        async def work() -> None:
            for body in documents:
                await self.store.apply(self._own(body))
                if body["kind"] == "Namespace":
                    await self._account()

        self._run(work())

    async def _account(self) -> None:
        """Pods are admitted once their namespace has its service account."""
        key = ObjectKey("ServiceAccount", workloads.NAMESPACE, "default")
        for _ in range(100):
            with contextlib.suppress(NotFoundError):
                await self.store.get(key)
                return
            await asyncio.sleep(0.1)

    def _own(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        text = yaml.safe_dump(dict(body))
        for family in (4, 6):
            # Where an address is not known its rule names one that nobody has (RFC 5737, 3849).
            nobody = {4: "192.0.2.255", 6: "2001:db8::ffff"}[family]
            text = text.replace(f"EXTERNAL{family}", self.external.get(family, nobody))
        return cast("Mapping[str, Any]", yaml.safe_load(text))

    def remove(self, documents: Documents) -> None:
        """Delete, and go on at once."""

        async def work() -> None:
            for body in documents:
                meta = body["metadata"]
                key = ObjectKey(body["kind"], meta.get("namespace", ""), meta["name"])
                with contextlib.suppress(NotFoundError):
                    await self.store.delete(key)

        self._run(work())

    def clean(self) -> None:
        """Delete the namespace and wait until it is gone."""

        async def gone() -> None:
            end = time.monotonic() + GONE_SECONDS
            while time.monotonic() < end:
                try:
                    await self.store.get(ObjectKey("Namespace", "", workloads.NAMESPACE))
                except NotFoundError:
                    return
                await asyncio.sleep(0.5)

        self.remove([workloads.meta("v1", "Namespace", workloads.NAMESPACE, namespace="")])
        self._run(gone())

    # Attempts

    def attempt(self, attempts: Sequence[Attempt]) -> None:
        """One command in each source's pod, all at once."""
        groups: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            groups.setdefault(attempt.check.source, []).append(attempt)

        async def work() -> None:
            await asyncio.gather(*(self._ask(s, group) for s, group in groups.items()))

        self._run(work())

    async def _ask(self, source: str, attempts: list[Attempt]) -> None:
        orders = [
            {
                "id": number,
                "proto": a.check.proto,
                "address": self._address(a.check.target, a.family),
                "port": a.check.port,
                "name": a.check.lookup,
                "timeout": TIMEOUT,
            }
            for number, a in enumerate(attempts)
        ]
        command = ("sh", "-c", SCRIPT, "sh", json.dumps(orders), workloads.PROBE)
        done = await execute(self.access, workloads.NAMESPACE, source, command)
        if done.code:
            raise AxonemeError(f"the prober in {source} failed: {done.err.strip()[-300:]}")
        for line in done.out.splitlines():
            answer = json.loads(line)
            attempt = attempts[answer["id"]]
            attempt.reason = answer["detail"]
            words = {"answered": ALLOWED, "silent": DENIED}
            attempt.verdict = words.get(answer["result"], REFUSED)

    def _address(self, target: str, family: int) -> str:
        kind, _, rest = target.partition(":")
        if target == "outside":
            listed = list(self.external.values())
        elif kind == "svc":
            listed = list(self._services[rest].spec.get("clusterIPs") or ())
        elif target.startswith(("host-", "nodeport-")):
            index = "ab".index(target[-1])
            nodes = self.facts.nodes
            node = self.nodes[nodes[min(index, len(nodes) - 1)]]
            listed = [
                a["address"]
                for a in node.status.get("addresses") or ()
                if a.get("type") == "InternalIP"
            ]
        else:
            listed = [a["ip"] for a in self._pods[target].status.get("podIPs") or ()]
        for text in listed:
            if ip_address(text).version == family:
                return text
        raise AxonemeError(f"{target} has no IPv{family} address")


def _is_ready(obj: ClusterObject) -> bool:
    conditions = obj.status.get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
