"""The agent's use of the packet path: prepare it, bind the core's maps, blame the right plugin."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.datapath.manager import DatapathManager
from axoneme.core.endpoints import maps as endpoint_maps
from axoneme.core.errors import AxonemeError, CompileError
from axoneme.core.ipcache import maps as ipcache_maps
from axoneme.core.nodes.runtime import RuntimeMap, RuntimeTarget
from axoneme.core.reconcile import Reconciler
from axoneme.core.reconcile.maps import MapTarget

if TYPE_CHECKING:
    from axoneme.core.agent.agent import Agent

log = logging.getLogger(__name__)

FIRST_PASS_SECONDS: Final = 30.0


def new_manager(agent: Agent) -> DatapathManager:
    """The packet path of this node, for the enabled plugins."""
    return DatapathManager(
        agent.config,
        agent.plugins.hook,
        Path(agent.config.text("bpf-root")),
        Path(agent.config.text("lib-dir")) / "cache",
    )


async def prepare(agent: Agent) -> None:
    """Compile, open maps, load; a plugin whose C is at fault follows ``plugin-failure-policy``."""
    while True:
        try:
            await asyncio.to_thread(agent.datapath.prepare)
            return
        except CompileError as error:
            plugin = plugin_of_file(agent, error.file)
            if plugin is None:
                raise
            agent.plugins.fail(plugin, error)  # raises under "stop"
            log.error("going on without plugin", extra={"plugin": plugin})


def plugin_of_file(agent: Agent, file: str) -> str | None:
    """The enabled plugin whose folder holds a C file."""
    if not file:
        return None
    path = Path(file).resolve()
    for name in agent.plugins.order:
        module = getattr(agent.plugins.module(name), "__file__", None)
        if module and Path(module).resolve().parent in path.parents:
            return name
    return None


def runtime_slots(manager: DatapathManager) -> dict[str, int]:
    """Numbers of the slots of ``axo_runtime`` by name."""
    return manager.enums("AXO_RUNTIME").by_name


def core_reconcilers(agent: Agent, runtime: RuntimeMap) -> dict[str, Reconciler[Any, Any]]:
    """Reconcilers of the core's maps, bound to the layouts of the C structs."""
    datapath, tables = agent.datapath, agent.tables

    def changed() -> None:
        agent.policy_generation.bump()
        agent.ipcache_generation.bump()

    addresses = MapTarget[Any, Any](
        "axo_endpoints",
        datapath.typed("axo_endpoints", endpoint_maps.AddressKey, endpoint_maps.AddressValue),
        endpoint_maps.encode_address,
        after=changed,
    )
    interfaces = MapTarget[Any, Any](
        "axo_ep_by_if",
        datapath.typed("axo_ep_by_if", endpoint_maps.InterfaceKey, endpoint_maps.InterfaceValue),
        endpoint_maps.encode_interface,
        after=agent.policy_generation.bump,
    )
    prefixes = MapTarget[Any, Any](
        "axo_ipcache",
        datapath.typed("axo_ipcache", ipcache_maps.IpcacheKey, ipcache_maps.IpcacheValue),
        ipcache_maps.encode_entry,
        after=changed,
    )
    facts = RuntimeTarget(runtime, runtime_slots(datapath), changed)
    return {
        "endpoints": Reconciler("endpoints", tables["endpoint_addresses"], addresses),
        "interfaces": Reconciler("interfaces", tables["endpoint_interfaces"], interfaces),
        "ipcache": Reconciler("ipcache", tables["ipcache"], prefixes),
        "runtime": Reconciler("runtime", tables["runtime"], facts),
    }


async def _first_pass(reconciler: Reconciler[Any, Any]) -> dict[Any, str]:
    """What failed; a target that never succeeds, a plugin's say, does not hold up the start."""
    try:
        async with asyncio.timeout(FIRST_PASS_SECONDS):
            return await reconciler.sync()
    except TimeoutError:
        return {"*": f"no full pass within {FIRST_PASS_SECONDS:.0f} s"}


async def settle(reconcilers: dict[str, Reconciler[Any, Any]]) -> None:
    """Wait for the first full pass of all; rows that failed are reported, not fatal."""
    results = await asyncio.gather(*(_first_pass(r) for r in reconcilers.values()))
    for name, errors in zip(reconcilers, results, strict=True):
        for key, message in errors.items():
            log.error(
                "row not programmed", extra={"reconciler": name, "row": str(key), "error": message}
            )


def require_programs(manager: DatapathManager, *names: str) -> None:
    """The core cannot do without its own programs."""
    for name in names:
        if name not in manager.programs:
            raise AxonemeError(f"the packet path has no program {name}")
