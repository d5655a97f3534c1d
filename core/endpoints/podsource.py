"""Where endpoints' labels come from: the pod and namespace tables, and what plugins add."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from axoneme.core.endpoints.labels import INIT, PodLabeller
from axoneme.core.endpoints.manager import EndpointManager
from axoneme.core.endpoints.pods import Namespace, Pod, is_pod
from axoneme.core.endpoints.request import EndpointRequest
from axoneme.core.errors import AxonemeError, NotReadyError
from axoneme.core.model.endpoint import Endpoint
from axoneme.core.model.labels import LabelSet
from axoneme.core.reconcile.reconciler import backoff
from axoneme.core.state import Changes, Table

log = logging.getLogger(__name__)

PATIENCE: float = 5.0
"""Seconds that an ADD waits for its pod's object: the runtime may be faster than the store."""

Relabel = Callable[[Endpoint, LabelSet], LabelSet]


class PodDirectory:
    """Pods of this node and the labels they give."""

    def __init__(
        self,
        pods: Table[tuple[str, str], Pod],
        namespaces: Table[str, Namespace],
        *,
        labeller: PodLabeller,
        relabel: Relabel,
        away: Callable[[], str] = lambda: "",
    ) -> None:
        """``away`` says why the store cannot be asked, if it cannot."""
        self.pods = pods
        self.namespaces = namespaces
        self._labeller = labeller
        self._relabel = relabel
        self._away = away

    async def find(self, request: EndpointRequest) -> Pod | None:
        """The pod of a request; its object and its namespace's are waited for for a while."""
        if not request.pod:
            return None
        pod = self._complete(request)
        if pod is None and (away := self._away()):  # there is nothing to wait for
            raise NotReadyError(
                f"pod {request.owner} or its namespace is not known here yet, and {away}",
                hint="try again when it is back",
            )
        return pod or await self._wait(request)

    def pod(self, endpoint: Endpoint) -> Pod | None:
        """The pod of an endpoint as it is known now; never another one of the same name."""
        pod = self.pods.get((endpoint.namespace, endpoint.pod)) if endpoint.pod else None
        return None if pod is None or not is_pod(pod, endpoint.uid) else pod

    def labels(self, endpoint: Endpoint) -> LabelSet | None:
        """The identity labels by what is known now; ``None`` when that is not all of it."""
        if not endpoint.pod:
            return self._relabel(endpoint, INIT)
        pod, namespace = self.pod(endpoint), self.namespaces.get(endpoint.namespace)
        if pod is None or namespace is None:
            return None  # without the namespace's labels it would be another identity
        return self._relabel(endpoint, self._labeller(pod, namespace))

    def _complete(self, request: EndpointRequest) -> Pod | None:
        """The pod if all that its labels come from is known."""
        pod = self.pods.get((request.namespace, request.pod))
        if pod is None or not is_pod(pod, request.uid) or request.namespace not in self.namespaces:
            return None
        return pod

    async def _wait(self, request: EndpointRequest) -> Pod:
        woken = asyncio.Event()
        stops = [t.subscribe(lambda _: woken.set()) for t in (self.pods, self.namespaces)]
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    await woken.wait()
                    woken.clear()
                    pod = self._complete(request)
                    if pod is not None:
                        return pod
        except TimeoutError:
            if request.namespace not in self.namespaces:
                raise NotReadyError(
                    f"namespace {request.namespace} of pod {request.pod} is not in the store",
                    hint="create the Namespace object: its labels are part of the identity",
                ) from None
            raise NotReadyError(
                f"pod {request.owner} is not in the store, or belongs to another node",
                hint="create the Pod object before its sandbox",
            ) from None
        finally:
            for stop in stops:
                stop()


class EndpointRefresher:
    """Follows pods and namespaces and refreshes the endpoints they concern."""

    def __init__(
        self, directory: PodDirectory, endpoints: EndpointManager, *, grace: float
    ) -> None:
        self._endpoints = endpoints
        self.grace = grace
        """Seconds that an endpoint keeps its identity when its labels change."""
        self._running: dict[int, asyncio.Task[None]] = {}
        self._again: set[int] = set()
        endpoints.after_add = self.refresh
        endpoints.parts.identities.on_lost(self._identity_lost)
        directory.pods.subscribe(self._pods_changed)
        directory.namespaces.subscribe(self._namespaces_changed)

    def refresh_all(self) -> None:
        """Look at every endpoint: after a restore, or when a plugin asks for it."""
        for endpoint in self._endpoints.table.rows():
            self.refresh(endpoint.id)

    def refresh(self, number: int) -> None:
        """Look at one endpoint soon; asked again meanwhile, it looks once more afterwards."""
        if number in self._running:
            self._again.add(number)
            return
        task = asyncio.get_running_loop().create_task(self._work(number))
        self._running[number] = task

    async def stop(self) -> None:
        """Cancel what is under way: the endpoints keep what is in force."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _work(self, number: int) -> None:
        failures = 0
        try:
            while True:
                self._again.discard(number)
                try:
                    await self._endpoints.refresh(number, self.grace)
                    failures = 0
                except AxonemeError as error:
                    failures += 1
                    log.warning(
                        "labels not taken over", extra={"endpoint": number, "error": str(error)}
                    )
                    await asyncio.sleep(backoff(failures))
                    if self._endpoints.table.get(number) is not None:
                        continue
                if number not in self._again:
                    return
        finally:
            self._running.pop(number, None)
            self._again.discard(number)

    def _identity_lost(self, identity: int) -> None:
        for endpoint in self._endpoints.table.find("identity", identity):
            self.refresh(endpoint.id)

    def _pods_changed(self, changes: Changes[tuple[str, str], Pod]) -> None:
        for namespace, name in changes.upserted:
            endpoint = self._endpoints.by_pod(namespace, name)
            if endpoint is not None:
                self.refresh(endpoint.id)

    def _namespaces_changed(self, changes: Changes[str, Namespace]) -> None:
        touched = changes.upserted.keys() | changes.deleted.keys()
        for endpoint in self._endpoints.table.rows():
            if endpoint.namespace in touched:
                self.refresh(endpoint.id)
