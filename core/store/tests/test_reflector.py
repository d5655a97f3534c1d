"""A reflector that starts again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import Table
from axoneme.core.store.folder import FolderStore
from axoneme.core.store.reflector import Reflector


def test_what_went_while_nobody_followed_goes_on_the_next_start(tmp_path: Path) -> None:
    """The watch failed and starts again: objects deleted in between leave the table."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        table: Table[str, str] = Table("names", str, key=lambda r: r)
        reflector = Reflector(store, "Namespace", table, lambda obj: obj.key.name)
        for name in ("stays", "goes"):
            await store.create(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )
        for expected in (["goes", "stays"], ["stays"]):
            task = asyncio.get_running_loop().create_task(reflector.run())
            async with asyncio.timeout(10):
                while sorted(table.rows()) != expected:
                    await asyncio.sleep(0.01)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            if expected != ["stays"]:
                await store.delete(ObjectKey("Namespace", "", "goes"))
        await store.close()

    asyncio.run(work())


class Kept(dict[ObjectKey, ClusterObject]):
    """Versions in memory."""

    def remember(self, obj: ClusterObject) -> None:
        self[obj.key] = obj

    def recall(self, key: ObjectKey) -> ClusterObject | None:
        return self.get(key)

    def forget(self, key: ObjectKey) -> None:
        self.pop(key, None)

    def sweep(self, present: Iterable[ObjectKey]) -> None:
        for key in self.keys() - set(present):
            del self[key]


def test_an_object_that_is_bad_at_the_start_has_its_last_good_version(tmp_path: Path) -> None:
    """Read before the table counts as complete; forgotten when the object is deleted."""
    kept = Kept()

    def decode(obj: ClusterObject) -> str:
        word = str(obj.labels.get("word"))
        if word == "bad":
            raise InvalidObjectError(str(obj.key), "metadata.labels.word", "is bad")
        return word

    def manifest(name: str, word: str) -> dict[str, object]:
        metadata = {"name": name, "labels": {"word": word}}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}

    async def run(expected: list[str], *bad: str) -> None:
        store = FolderStore(tmp_path)
        table: Table[str, str] = Table("words", str, key=lambda r: r)
        reflector = Reflector(store, "Namespace", table, decode, versions=kept)
        task = asyncio.get_running_loop().create_task(reflector.run())
        async with asyncio.timeout(10):
            await table.initialized.wait()
            assert sorted(table.rows()) == expected
            assert {k.name for k in reflector.errors} == set(bad)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await store.close()

    async def work() -> None:
        store = FolderStore(tmp_path)
        await store.create(manifest("a", "one"))
        await store.create(manifest("b", "two"))
        await run(["one", "two"])
        await store.apply(manifest("a", "bad"))
        await store.apply(manifest("c", "bad"))
        await run(["one", "two"], "a", "c")
        await store.delete(ObjectKey("Namespace", "", "a"))
        await run(["two"], "c")
        assert {k.name for k in kept} == {"b"}
        await store.close()

    asyncio.run(work())
