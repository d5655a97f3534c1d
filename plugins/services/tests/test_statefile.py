"""A file of services beside a cluster's: shapes, mistakes, whose a name is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.state import Table
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.store.manifest import to_object
from axoneme.plugins.services.decode import decode_service, decode_slice
from axoneme.plugins.services.rows import Service, Slice
from axoneme.plugins.services.statefile import StateFile


def service(name: str, address: str = "10.96.0.1") -> dict[str, Any]:
    """A Service without its head."""
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": address, "ports": [{"port": 80}]},
    }


def piece(name: str, of: str, address: str = "10.0.0.1") -> dict[str, Any]:
    """Its EndpointSlice without its head."""
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": of},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]}],
        "ports": [{"port": 80}],
    }


def whole(body: dict[str, Any], kind: str = "Service") -> dict[str, Any]:
    """With its head."""
    version = "v1" if kind == "Service" else "discovery.k8s.io/v1"
    return {"apiVersion": version, "kind": kind, **body}


class Bench:
    """Tables, and a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.services: Table[Any, Service] = Table("services", Service, lambda r: r.name)
        self.slices: Table[Any, Slice] = Table("slices", Slice, lambda r: r.name)
        self.file = StateFile(path, self.services, self.slices, decode_service)

    def write(self, *documents: dict[str, Any]) -> None:
        """Another file."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text("\n---\n".join(json.dumps(d) for d in documents))
        fresh.rename(self.path)
        self.turn()

    def turn(self) -> None:
        """What happens every second."""
        self.file.look()
        self.file.publish()

    def cluster(self, body: dict[str, Any], kind: str = "Service") -> Any:
        """The cluster has an object, as a reflector puts it."""
        obj = to_object(whole(body, kind), KindRegistry())
        row = decode_service(obj) if kind == "Service" else decode_slice(obj)
        table: Any = self.services if kind == "Service" else self.slices
        assert row is not None
        table.upsert(row)
        return row

    def names(self) -> tuple[list[str], list[str]]:
        """Of services and slices."""
        return tuple(sorted(r.name[1] for r in t) for t in (self.services, self.slices))  # type: ignore[return-value]

    def address(self, name: str) -> str:
        """A service's."""
        return str(self.services.get(("default", name)).cluster_ips[0])  # type: ignore[union-attr]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Nothing yet."""
    return Bench(tmp_path / "state.yaml")


@pytest.mark.parametrize("shape", ["documents", "list", "cilium"])
def test_three_shapes_say_the_same(bench: Bench, shape: str) -> None:
    """Documents, a List, one mapping with two lists."""
    both = [whole(service("a")), whole(piece("a-1", "a"), "EndpointSlice")]
    bench.write(
        *{
            "documents": both,
            "list": [{"apiVersion": "v1", "kind": "List", "items": both}],
            "cilium": [{"services": [service("a")], "endpoints": [piece("a-1", "a")]}],
        }[shape]
    )
    assert not bench.file.error
    assert bench.names() == (["a"], ["a-1"])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"services": {"a": 1}}, "services: must be a list"),
        ({"services": ["a"]}, r"services\[0\]: must be a mapping"),
        ({"services": [{"spec": {}}]}, "metadata"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}, "neither Service"),
        ({"spec": 1}, "kind"),
    ],
)
def test_a_bad_file_leaves_the_last_one(bench: Bench, document: dict[str, Any], words: str) -> None:
    """And says what is wrong with it; nothing of it counts."""
    bench.write(whole(service("a")))
    bench.write(whole(service("b")), document)
    assert bench.names() == (["a"], [])
    [problem] = bench.file.problems()
    assert str(bench.path) in problem
    assert re.search(words, problem)
    bench.write(whole(service("b")))
    assert bench.names() == (["b"], [])
    assert not list(bench.file.problems())


def test_a_file_that_is_gone_leaves_the_last_one(bench: Bench) -> None:
    """Who wants no services writes an empty file."""
    bench.write(whole(service("a")))
    bench.path.unlink()
    bench.turn()
    assert bench.names() == (["a"], [])
    assert "No such file" in bench.file.error
    bench.write()
    assert bench.names() == ([], [])


def test_a_name_of_the_clusters_is_the_clusters_with_all_its_slices(bench: Bench) -> None:
    """Whoever was first; and it stays when the file lets go of it."""
    theirs = bench.cluster(service("a", "10.96.0.9"))
    bench.write({"services": [service("a"), service("b")], "endpoints": [piece("mine", "a")]})
    assert bench.address("a") == "10.96.0.9"
    assert bench.names() == (["a", "b"], [])
    assert any("default/a is in the cluster too" in p for p in bench.file.problems())
    bench.write(whole(service("b")))
    assert bench.services.get(("default", "a")) == theirs
    assert not list(bench.file.problems())


def test_the_cluster_takes_a_name_over_and_gives_it_back(bench: Bench) -> None:
    """Its object arrives later; when it goes, the file's counts again."""
    bench.write({"services": [service("a")], "endpoints": [piece("mine", "a")]})
    bench.cluster(service("a", "10.96.0.9"))
    bench.turn()
    assert bench.address("a") == "10.96.0.9"
    assert bench.names() == (["a"], [])
    bench.services.delete(("default", "a"))
    bench.turn()
    assert bench.address("a") == "10.96.0.1"
    assert bench.names() == (["a"], ["mine"])


def test_a_change_is_taken_over_in_place(bench: Bench) -> None:
    """Its own earlier version is no clash."""
    bench.write(whole(service("a")))
    bench.write(whole(service("a", "10.96.0.2")))
    assert bench.address("a") == "10.96.0.2"
    assert not list(bench.file.problems())


def test_a_slice_of_the_clusters_is_not_overwritten(bench: Bench) -> None:
    """Whatever service either of the two is of."""
    theirs = bench.cluster(piece("one", "c", "10.0.0.9"), "EndpointSlice")
    bench.write({"services": [service("a")], "endpoints": [piece("one", "a")]})
    assert bench.slices.get(("default", "one")) == theirs
    bench.write({"services": [service("a")]})
    assert bench.slices.get(("default", "one")) == theirs
