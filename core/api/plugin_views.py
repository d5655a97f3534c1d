"""What a plugin is, in full: for the API and for the CLI without an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from axoneme.core.errors import NotFoundError
from axoneme.core.text import nearest

if TYPE_CHECKING:
    from axoneme.core.config import Config
    from axoneme.core.plugins import PluginManager


def plugin_detail(plugins: PluginManager, config: Config, name: str) -> dict[str, Any]:
    """A plugin with its options (and what they are now) and the hooks that it implements."""
    info = plugins.info(name)
    if info is None:
        near = nearest(name, [info.name for info in plugins.infos])
        hint = f"did you mean {near}?" if near else "axoneme plugin list shows them"
        raise NotFoundError(f"no plugin {name!r}", hint=hint)
    module = plugins.module(name)
    settings = {setting.key: setting for setting in config.settings()}
    return attrs.asdict(info) | {
        "requires": list(info.requires),
        "module": str(getattr(module, "__file__", None) or ""),
        "hooks": plugins.hooks_of(name),
        "options": [
            {
                "key": option.key,
                "type": option.type,
                "default": "" if callable(option.default) else option.format(option.default),
                "value": settings[option.key].value if option.key in settings else "",
                "help": option.help,
            }
            for option in config.registry
            if option.owner == name
        ],
    }
