"""What the long-running commands share: flags, logging, signals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from axoneme.core.config import Config
    from axoneme.core.plugins import PluginManager

log = logging.getLogger(__name__)


class Process(Protocol):
    """An agent or an operator: runs until it is cancelled, and cleans up then."""

    async def run(self) -> None:
        """Run until cancelled."""
        ...


def prepare(
    flags: tuple[str, ...], config_dir: Path | None, yaml_file: Path | None
) -> tuple[Config, PluginManager]:
    """Load configuration and plugins, set up logging, log the configuration's warnings."""
    from axoneme.core.boot import boot
    from axoneme.core.config_sources import parse_flags
    from axoneme.core.log import setup

    config, plugins = boot(parse_flags(flags), os.environ, config_dir, yaml_file)
    setup(logging.DEBUG if config.flag("debug") else logging.INFO, config.text("log-format"))
    for warning in config.warnings:
        log.warning(warning)
    return config, plugins


def calm_collector() -> None:
    """Look for garbage cycles after many new objects, not after each 700.

    Rows live long and are in no cycle: with a cluster's worth of them the collector's default pace
    takes a third of the time of a burst of changes, for nothing.
    """
    gc.set_threshold(50_000, 20, 50)


def run(make: Callable[[], Process]) -> int:
    """Make the process on a loop of its own and run it; SIGTERM and SIGINT cancel it: exit 0."""
    calm_collector()

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        await make().run()

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())
    return 0
