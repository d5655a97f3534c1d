"""The way back from CiliumEndpointSlices: served while an agent reads them, then deleted.

Agents take their endpoints from slices or from CiliumEndpoints as they were told at their start,
and say so on their CiliumNode. When the key is switched off, agents restart one by one; those that
have not yet must hear of new pods still. So slices are written on as long as a node says that it
reads them, and go when none has said so for :data:`GRACE_SECONDS`: an agent that begins to read
CiliumEndpoints takes its word back only when it has them all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError
from axoneme.core.ipcache.slices import KIND
from axoneme.core.operator.slice_writer import SliceMetrics, SlicePace, SliceWriter
from axoneme.core.state import TableRegistry
from axoneme.core.tasks import TaskGroupRunner

if TYPE_CHECKING:
    from axoneme.core.model.objects import ClusterObject
    from axoneme.core.operator.operator import Operator

log = logging.getLogger(__name__)

TASK: Final = "endpoint slices that are off"
GRACE_SECONDS = 300.0
"""Without a reader: for an agent that starts just now, or whose release does not say yet."""
LOOK_SECONDS = 5.0
RETRY_SECONDS = 60.0


def register(operator: Operator) -> None:
    """Write slices, or take away those of before, as the key says."""
    pace = SlicePace(operator.config, operator.nodes)
    metrics = SliceMetrics.declare(operator.metrics)
    if operator.config.flag("enable-cilium-endpoint-slice"):
        writer = SliceWriter(operator, operator.tables, pace, metrics)
        writer.follow(operator.tasks)
        operator.add_task("endpoint slices", writer.run)
    else:
        operator.add_task(TASK, SliceRemover(operator, pace, metrics).run)


class SliceRemover:
    """Ends when there is no slice; there will be none again while the key is off."""

    def __init__(self, operator: Operator, pace: SlicePace, metrics: SliceMetrics) -> None:
        self._operator, self._pace, self._metrics = operator, pace, metrics

    async def run(self) -> None:
        """Serve, wait, delete; what cannot be done is tried again."""
        await self._operator.nodes.initialized.wait()
        while True:
            try:
                if not await self._slices():
                    return
                await self._serve()
                while not (self.readers() or await self._delete()):  # noqa: ASYNC110  no event
                    await asyncio.sleep(RETRY_SECONDS)
            except AxonemeError as error:
                log.warning("slices not deleted", extra={"error": str(error)})
                await asyncio.sleep(RETRY_SECONDS)

    async def _slices(self) -> list[ClusterObject]:
        try:
            return await self._operator.store.list(KIND)
        except NotFoundError:  # the cluster does not know the kind
            return []

    def readers(self) -> list[str]:
        """Nodes whose agents read slices; one whose object cannot be read may be one."""
        operator = self._operator
        named = [node.name for node in operator.nodes.rows() if node.reads_slices]
        return named + [key.name for key in operator.node_objects.errors]

    async def _serve(self) -> None:
        """Keep slices right until nobody has read them for a while."""
        tasks = TaskGroupRunner()
        tasks.start()
        writer = SliceWriter(self._operator, TableRegistry(), self._pace, self._metrics)
        writer.follow(tasks)
        tasks.spawn("endpoint slices", writer.run)
        try:
            await self._until_unread()
        finally:
            await tasks.stop()

    async def _until_unread(self) -> None:
        read_at, told = time.monotonic(), -1
        while time.monotonic() - read_at < GRACE_SECONDS:
            readers = self.readers()
            if readers:
                read_at = time.monotonic()
            if len(readers) != told:
                told = len(readers)
                extra = {"readers": told, "some": sorted(readers)[:5]}
                log.info("slices are off, kept for agents that may read them", extra=extra)
            await asyncio.sleep(LOOK_SECONDS)

    async def _delete(self) -> bool:
        """Delete slices, unless somebody reads them again; false if one is to be tried again."""
        count = failures = 0
        for obj in await self._slices():
            await self._pace.take()
            if self.readers():
                return True
            try:
                await self._operator.store.delete(obj.key, obj.resource_version)
            except NotFoundError:
                continue
            except AxonemeError as error:
                failures += 1
                if not isinstance(error, ConflictError):
                    extra = {"object": str(obj.key), "error": str(error)}
                    log.warning("slice not deleted", extra=extra)
                continue
            count += 1
        log.info("slices deleted", extra={"count": count, "failures": failures})
        return not failures
