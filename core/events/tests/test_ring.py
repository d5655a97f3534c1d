"""Events through a real ring of the kernel, written by a real program."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from axoneme.core.datapath import testrun
from axoneme.core.datapath.enums import find_enum
from axoneme.core.datapath.loader import Loaded, load_text
from axoneme.core.datapath.registry import default_include_dirs
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.events.record import STRUCT
from axoneme.core.events.service import EventService
from axoneme.core.events.tests.conftest import probe_text
from axoneme.core.state import TableRegistry

pytestmark = pytest.mark.root


class Datapath:
    """What a service needs of the datapath manager, over one loaded text."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.maps = loaded.maps

    def layout(self, name: str):  # type: ignore[no-untyped-def]
        return self.loaded.compiled.layout(name)

    def typed(self, name: str, key, value):  # type: ignore[no-untyped-def]
        return TypedMap(self.maps[name], key, value)

    def enums(self, name: str):  # type: ignore[no-untyped-def]
        return find_enum(default_include_dirs(), name)


def test_burst_arrives_whole(tmp_path: Path) -> None:
    """Every record of a burst is read, also those for which the kernel wakes nobody."""

    async def scenario(loaded: Loaded) -> tuple[int, set[str], dict[str, int]]:
        service = EventService(TableRegistry(), "node1")
        service.open(Datapath(loaded))
        service.start()
        count, texts = 0, set()
        probe = loaded.programs["probe"].fd
        testrun.run(probe, bytes(64), repeat=10)  # nobody listens: not even written
        with service.fanout.subscribe() as listener:
            for _ in range(3):
                await asyncio.to_thread(testrun.run, probe, bytes(64), repeat=500)
                await asyncio.sleep(0.05)
            while count < 1500:
                events = await asyncio.wait_for(listener.next(), 5)
                count += len(events)
                texts |= {x.text for x in events}
        assert service.reader is not None
        assert service.reader.read == 1500
        losses = service.losses()
        service.stop()
        return count, texts, losses

    with load_text(probe_text(), structs=(STRUCT,), cache_dir=tmp_path) as loaded:
        count, texts, losses = asyncio.run(scenario(loaded))
    assert (count, texts) == (1500, {"Policy denied"})
    assert losses == {"ring-full": 0, "rate-limited": 0, "slow-reader": 0, "malformed": 0}
