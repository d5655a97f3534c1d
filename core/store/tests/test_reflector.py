"""A reflector that starts again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from axoneme.core.model.objects import ObjectKey
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
