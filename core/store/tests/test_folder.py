"""The folder store: verbs, conflicts, several processes, bad files, watches."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from axoneme.core.errors import ConflictError, InvalidObjectError, NotFoundError, StoreError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import Table
from axoneme.core.store import FolderStore, Reflector
from axoneme.core.store.engine import FolderEngine


def pod(name: str, namespace: str | None = "default", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


KEY = ObjectKey("Pod", "default", "a")


@pytest.fixture
def engine(tmp_path: Path) -> FolderEngine:
    return FolderEngine(tmp_path)


def test_round_trip_and_uid(engine: FolderEngine) -> None:
    """What is created is read back with a uid and a version; the namespace defaults."""
    made = engine.create(pod("a", namespace=None, nodeName="n1"))
    read = engine.get(KEY)
    assert read.spec == {"nodeName": "n1"}
    assert read.uid == made.uid != ""
    assert read.resource_version == made.resource_version


def test_create_is_exclusive(engine: FolderEngine) -> None:
    """A name can be created once."""
    engine.create(pod("a"))
    with pytest.raises(ConflictError, match="Pod default/a exists"):
        engine.create(pod("a"))


def test_stale_update_conflicts_and_changes_nothing(engine: FolderEngine) -> None:
    """The loser of two updates is told, and the winner's text stays."""
    old = engine.create(pod("a"))
    engine.update({**old.body, "spec": {"nodeName": "first"}})
    with pytest.raises(ConflictError):
        engine.update({**old.body, "spec": {"nodeName": "second"}})
    assert engine.get(KEY).spec == {"nodeName": "first"}


def test_edit_by_hand_is_a_new_version(engine: FolderEngine) -> None:
    """A writer that read before somebody's editor saved gets a conflict."""
    old = engine.create(pod("a"))
    path = engine.path(KEY)
    path.write_text(path.read_text().replace("spec: {}", "spec: {nodeName: hand}"))
    with pytest.raises(ConflictError):
        engine.update(old.body)


def test_apply_keeps_status_and_uid(engine: FolderEngine) -> None:
    """Applying a manifest again never wipes what controllers wrote."""
    made = engine.apply(pod("a"))
    engine.update_status(KEY, {"phase": "Running"})
    again = engine.apply(pod("a", nodeName="n2"))
    assert (again.uid, again.status, again.spec) == (
        made.uid,
        {"phase": "Running"},
        {"nodeName": "n2"},
    )


def test_a_status_is_not_written_over_a_version_that_nobody_read(engine: FolderEngine) -> None:
    """With a version given, a change in between is a conflict."""
    read = engine.create(pod("a"))
    now = engine.update_status(KEY, {"phase": "Running"}, read.resource_version)
    with pytest.raises(ConflictError, match="has changed"):
        engine.update_status(KEY, {"phase": "Failed"}, read.resource_version)
    engine.update_status(KEY, {"phase": "Failed"}, now.resource_version)
    assert engine.get(KEY).status == {"phase": "Failed"}


def test_apply_of_the_same_writes_nothing(engine: FolderEngine) -> None:
    """An unchanged manifest keeps its version, so nobody is woken."""
    first = engine.apply(pod("a"))
    assert engine.apply(pod("a")).resource_version == first.resource_version


def test_stale_delete_conflicts_and_deletes_nothing(engine: FolderEngine) -> None:
    """A deletion that names a version spares what was written since."""
    old = engine.create(pod("a"))
    new = engine.update({**old.body, "spec": {"nodeName": "n1"}})
    with pytest.raises(ConflictError):
        engine.delete(KEY, old.resource_version)
    assert engine.get(KEY).spec == {"nodeName": "n1"}
    engine.delete(KEY, new.resource_version)
    with pytest.raises(NotFoundError):
        engine.delete(KEY, new.resource_version)


def test_delete_twice(engine: FolderEngine) -> None:
    """The second delete says that there is nothing."""
    engine.create(pod("a"))
    engine.delete(KEY)
    with pytest.raises(NotFoundError, match="Pod default/a"):
        engine.delete(KEY)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "Pod", "metadata": {"name": "a"}}, "apiVersion"),
        ({"apiVersion": "v1", "metadata": {"name": "a"}}, "kind"),
        ({"apiVersion": "v1", "kind": "Pod"}, "metadata"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "../x"}}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 7}}, "metadata.name"),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "a/b"}},
            "metadata.namespace",
        ),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": 1}}},
            "metadata.labels.x",
        ),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": []}, "spec"),
    ],
)
def test_bad_manifest_names_the_field_and_writes_nothing(
    engine: FolderEngine, body: dict[str, Any], field: str
) -> None:
    """Nothing that cannot be read back is ever written."""
    with pytest.raises(InvalidObjectError) as caught:
        engine.create(body)
    assert caught.value.field == field
    assert engine.files("Pod") == []


def test_foreign_group_is_not_mistaken_for_a_known_kind(engine: FolderEngine) -> None:
    """Another project's NetworkPolicy is kept, but never enforced as Kubernetes' own."""
    body = {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "x", "namespace": "default"},
    }
    engine.create(body)
    assert engine.list("NetworkPolicy") == []
    assert len(engine.list("NetworkPolicy.crd.projectcalico.org")) == 1


def test_bad_file_is_left_out_of_lists(engine: FolderEngine) -> None:
    """One broken file never hides the others."""
    engine.create(pod("a"))
    (engine.folder("Pod") / "default.b.yaml").write_text("kind: [")
    assert [o.key for o in engine.list("Pod")] == [KEY]
    with pytest.raises(InvalidObjectError, match=r"default\.b\.yaml"):
        engine.get(ObjectKey("Pod", "default", "b"))


def test_unwritable_folder_is_a_store_error(tmp_path: Path) -> None:
    """A root that is a file is reported, not a traceback."""
    (tmp_path / "root").write_text("")
    with pytest.raises(StoreError, match="root"):
        FolderEngine(tmp_path / "root").create(pod("a"))


def test_lease_has_one_holder_until_it_expires(engine: FolderEngine) -> None:
    """Renewing works, stealing does not, an expired lease is free."""
    assert engine.acquire_lease("operator", "one", 30)
    assert engine.acquire_lease("operator", "one", 0)
    assert engine.acquire_lease("operator", "two", 30)
    assert not engine.acquire_lease("operator", "one", 30)


def _claim(root: str, worker: int, names: int, results: Any) -> None:
    engine = FolderEngine(Path(root))
    won = 0
    for number in range(names):
        try:
            engine.create(pod(f"p{number}", nodeName=str(worker)))
            won += 1
        except ConflictError:
            pass
    results.put(won)


def test_processes_racing_to_create_never_both_win(tmp_path: Path) -> None:
    """Of several processes that create one name exactly one succeeds."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    workers = [
        context.Process(target=_claim, args=(str(tmp_path), n, 30, results)) for n in range(3)
    ]
    for worker in workers:
        worker.start()
    total = sum(results.get() for _ in workers)
    for worker in workers:
        worker.join()
    assert total == 30


def _churn(root: str) -> None:
    engine = FolderEngine(Path(root))
    number = 0
    while True:
        number += 1
        engine.apply(pod("a", nodeName="n" * (number % 5000)))


def test_killed_writer_leaves_readable_state(tmp_path: Path) -> None:
    """SIGKILL at any instant leaves the old or the new text, never half of one, and no lock."""
    context = multiprocessing.get_context("fork")
    engine = FolderEngine(tmp_path)
    engine.apply(pod("a"))
    for attempt in range(15):
        writer = context.Process(target=_churn, args=(str(tmp_path),))
        writer.start()
        writer.join(0.01 + attempt * 0.003)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        engine.get(KEY)
        engine.apply(pod("a", nodeName=f"after{attempt}"))


async def collect(stream: AsyncIterator[Any], until: str) -> list[str]:
    """Event types, with the object's name, up to and including the one named ``until``."""
    seen = []
    async for event in stream:
        seen.append(f"{event.type} {event.key.name}" if event.key else event.type)
        if seen[-1] == until:
            return seen
    raise AssertionError("stream ended")


def test_watch_tells_the_story(tmp_path: Path) -> None:
    """Existing objects, synced, then each change, with bad text reported by name."""

    async def main() -> None:
        store = FolderStore(tmp_path)
        await store.create(pod("a"))
        stream = store.watch("Pod")
        assert await collect(stream, "synced") == ["added a", "synced"]
        await store.create(pod("b"))
        assert await collect(stream, "added b") == ["added b"]
        path = store.engine.path(ObjectKey("Pod", "default", "b"))
        path.write_text("kind: [")
        assert (await collect(stream, "invalid b"))[-1] == "invalid b"
        await store.apply(pod("b", nodeName="x"))
        assert (await collect(stream, "modified b"))[-1] == "modified b"
        await store.delete(KEY)
        assert await collect(stream, "deleted a") == ["deleted a"]
        await stream.aclose()  # type: ignore[attr-defined]
        await store.close()

    asyncio.run(asyncio.wait_for(main(), 20))


@frozen
class PodRow:
    name: str
    node: str


def decode(obj: ClusterObject) -> PodRow | None:
    if obj.spec.get("nodeName") == "boom":
        raise RuntimeError("boom")
    if obj.spec.get("nodeName") == "skip":
        return None
    return PodRow(obj.key.name, str(obj.spec.get("nodeName")))


def test_reflector_keeps_the_last_good_row(tmp_path: Path) -> None:
    """Bad text and a decoder that dies keep the row; a later good version replaces it."""

    async def main() -> None:
        store = FolderStore(tmp_path)
        table = Table("pods", PodRow, lambda r: r.name)
        reflector = Reflector(store, "Pod", table, decode)
        await store.create(pod("a", nodeName="n1"))
        task = asyncio.create_task(reflector.run())
        await table.initialized.wait()
        assert table.rows() == [PodRow("a", "n1")]
        await store.apply(pod("a", nodeName="boom"))
        while KEY not in reflector.errors:
            await asyncio.sleep(0.002)
        assert table.rows() == [PodRow("a", "n1")]
        await store.apply(pod("a", nodeName="n2"))
        while table.rows() != [PodRow("a", "n2")]:
            await asyncio.sleep(0.002)
        assert reflector.errors == {}
        await store.apply(pod("a", nodeName="skip"))
        while len(table):
            await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()

    asyncio.run(asyncio.wait_for(main(), 20))
