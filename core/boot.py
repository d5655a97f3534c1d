"""From the command line to a checked configuration and enabled plugins: the same for all processes.

The order matters: sources are read raw, because the key ``plugins`` decides what is loaded; every
plugin declares its keys; then values are checked; then plugins are enabled and check theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.config_sources import RawConfig, read_sources
from axoneme.core.errors import ConfigError
from axoneme.core.option_types import PARSERS
from axoneme.core.plugins import PluginManager

TRACE_VARIABLE = "AXONEME_TRACE_HOOKS"


def boot(
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    config_dir: Path | None = None,
    yaml_file: Path | None = None,
    *,
    policy: str = "",
    check: bool = True,
) -> tuple[Config, PluginManager]:
    """Load everything. ``policy="disable"`` shows bad plugins instead of stopping at one.

    ``config_dir`` and ``yaml_file`` default to ``AXONEME_CONFIG_DIR`` and ``AXONEME_CONFIG``.
    """
    env = env or {}
    if config_dir is None and env.get("AXONEME_CONFIG_DIR"):
        config_dir = Path(env["AXONEME_CONFIG_DIR"])
    if yaml_file is None and env.get("AXONEME_CONFIG"):
        yaml_file = Path(env["AXONEME_CONFIG"])
    raw = read_sources(flags or {}, env, config_dir, yaml_file)
    registry, plugins = declare(raw, trace=env.get(TRACE_VARIABLE, "") not in ("", "0", "false"))
    config = Config.resolve(registry, raw)
    plugins.enable(config, policy=policy)
    if check:
        _check(config, plugins)
    return config, plugins


def declare(raw: RawConfig, *, trace: bool = False) -> tuple[OptionRegistry, PluginManager]:
    """Every key that there is: of the core, and of the plugins that are installed or named."""
    plugins = PluginManager(trace=trace)
    plugins.discover(_extra_plugins(raw))
    registry = OptionRegistry()
    core_options.register(registry)
    plugins.register_options(registry)
    return registry, plugins


def _extra_plugins(raw: RawConfig) -> tuple[str, ...]:
    for found in raw.candidates("plugins"):
        try:
            words: tuple[str, ...] = PARSERS["strings"](found.value or "")
        except ValueError as error:
            raise ConfigError(f"key plugins ({found.origin}): expected {error}") from None
        return words
    return ()


def _check(config: Config, plugins: PluginManager) -> None:
    plugins.call("axoneme_check_config", config=config)
