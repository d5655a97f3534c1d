"""The lab as a world: its own probes, which know of a drop at once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from attrs import evolve

from axoneme.core.api import client
from axoneme.core.connectivity import workloads
from axoneme.core.connectivity.model import ALLOWED, DENIED, REFUSED, Attempt, Facts
from axoneme.core.connectivity.runner import Documents
from axoneme.core.lab import controller, manifests, probe, settle, targets, underlay
from axoneme.core.lab.model import Lab, locked
from axoneme.core.lab.output import Output
from axoneme.core.lab.paths import WORLD, LabPaths
from axoneme.core.lab.stores import open_store

NAMESERVER: Final = Path(controller.__file__).parent / "bin" / "nameserver"
OUTSIDE: Final = {4: str(underlay.WORLD4), 6: str(underlay.WORLD6)}


class LabWorld:
    """A lab that is up."""

    def __init__(self) -> None:
        self.lab = Lab.load(LabPaths.current())
        self.store = open_store(self.lab)
        self.output = Output(quiet=True)
        keys = {s["key"]: s["value"] for s in client.call(self._socket(), "config.get", None, 30.0)}
        families = tuple(f for f in (4, 6) if keys[f"enable-ipv{f}"] == "true")
        self.facts = Facts(
            f"lab {self.lab.paths.root.name}",
            families,
            tuple(n.name for n in self.lab.nodes),
            outside=True,
            from_outside=True,
            keys=keys,
        )
        self._places: dict[str, targets.Place] = {}

    def _socket(self) -> Path:
        return self.lab.paths.node(self.lab.nodes[0].name) / "axoneme.sock"

    def prepare(self) -> None:
        """Apply the workloads; a lab's pods listen when it returns."""
        self._apply(workloads.documents(self.facts.nodes, "lab", OUTSIDE))

    def apply(self, documents: Documents) -> None:
        """As ``axoneme lab apply`` does, which returns when all agents have taken it in."""
        if documents:
            self._apply(documents)

    def _apply(self, documents: Documents) -> None:
        with locked(self.lab.paths):
            controller.apply(self.lab, self.store, self._read(documents), self.output)
            settle.wait(self.lab, self.store, self.output)

    def remove(self, documents: Documents) -> None:
        """As ``axoneme lab delete`` does."""
        if not documents:
            return
        with locked(self.lab.paths):
            controller.delete(self.lab, self.store, self._read(documents), self.output)
            settle.wait(self.lab, self.store, self.output)

    def close(self) -> None:
        """Nothing is held open."""

    def clean(self) -> None:
        """Remove the namespace with all that is in it."""
        self.remove([workloads.meta("v1", "Namespace", workloads.NAMESPACE, namespace="")])

    def _read(self, documents: Documents) -> list[manifests.Document]:
        text = yaml.safe_dump_all([self._own(d) for d in documents])
        for family, address in OUTSIDE.items():
            text = text.replace(f"EXTERNAL{family}", address)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            names = [n.name for n in self.lab.nodes]
            return manifests.read([Path(file.name)], self.store, names)

    def _own(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """A command by its path on this machine."""
        notes = document["metadata"].get("annotations") or {}
        command = notes.get("lab.axoneme.io/command", "")
        if not command.startswith("nameserver "):
            return document
        own = {**notes, "lab.axoneme.io/command": command.replace("nameserver", str(NAMESERVER), 1)}
        return {**document, "metadata": {**document["metadata"], "annotations": own}}

    def attempt(self, attempts: Sequence[Attempt]) -> None:
        """All at once."""
        orders = [self._order(a) for a in attempts]
        for attempt, result in zip(attempts, probe.run(self.lab, orders), strict=True):
            attempt.reason = result.drop_reason or result.detail
            attempt.verdict = {"allowed": ALLOWED, "denied": DENIED}.get(result.verdict, REFUSED)

    def _order(self, attempt: Attempt) -> probe.Order:
        check = attempt.check
        source, target = self._place(check.source), self._place(check.target)
        return probe.Order(source, target, attempt.family, check.proto, check.port, check.lookup)

    def _place(self, name: str) -> targets.Place:
        if name not in self._places:
            self._places[name] = self._find(name)
        return self._places[name]

    def _find(self, name: str) -> targets.Place:
        kind, _, rest = name.partition(":")
        if kind == "svc":
            return targets.target(self.lab, self.store, f"{workloads.NAMESPACE}/{rest}")
        if name == "outside":
            return targets.source(self.lab, self.store, WORLD)
        for word in ("host-", "nodeport-"):
            if name.startswith(word):
                nodes = self.facts.nodes
                node = nodes[min("ab".index(name.removeprefix(word)), len(nodes) - 1)]
                place = targets.source(self.lab, self.store, node)
                return evolve(place, name=name)
        return targets.source(self.lab, self.store, f"{workloads.NAMESPACE}/{name}")
