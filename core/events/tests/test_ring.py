"""Events through a real ring of the kernel, written by a real program."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from axoneme.core.datapath import testrun
from axoneme.core.datapath.compose import merge_text
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


ALL_KINDS = """
#include "axo/events.h"
int probe(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = axo_ctx_get();

	if (!ctx)
		return TC_ACT_SHOT;
	ctx->report = 1;
	axo_trace(skb, ctx, AXO_TRACE_TO_STACK, 0);
	axo_verdict_event(skb, ctx, 0);
	axo_verdict_event(skb, ctx, AXO_DROP_POLICY);
	return axo_finish(skb, ctx, -AXO_DROP_POLICY);
}
"""


def test_refusals_are_kept_while_nobody_listens(tmp_path: Path) -> None:
    """Drops and refusing verdicts alone, the last ones; a listener gets everything."""

    async def scenario(loaded: Loaded) -> None:
        service = EventService(TableRegistry(), "node1")
        service.recent.limit = 5
        service.open(Datapath(loaded))
        service.start()
        assert service.reader is not None
        probe = loaded.programs["probe"].fd
        await asyncio.to_thread(testrun.run, probe, bytes(64), repeat=4)
        async with asyncio.timeout(5):
            while service.reader.read < 8:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert service.reader.read == 8
        kept = await service.recall({})
        assert [e["type"] for e in kept] == ["drop", *["policy-verdict", "drop"] * 2]
        assert len({e["id"] for e in kept}) == 5
        assert service.recent.find(kept[2]["id"]) is not None
        assert len(await service.recall({"types": ["drop"]})) == 3
        with service.fanout.subscribe() as listener:
            await asyncio.to_thread(testrun.run, probe, bytes(64), repeat=1)
            events = await asyncio.wait_for(listener.next(), 5)
            assert [e.kind for e in events] == ["trace", "policy-verdict", "policy-verdict", "drop"]
            assert events[-1].id in {e["id"] for e in await service.recall({})}
        service.stop()

    text = merge_text(ALL_KINDS, default_include_dirs())
    with load_text(text, structs=(STRUCT,), cache_dir=tmp_path) as loaded:
        asyncio.run(scenario(loaded))
