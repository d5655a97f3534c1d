"""What one agent says about itself, through its local API; and what plugins add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from axoneme.core.plugin_loading import describe_failure, find_implementing
from axoneme.core.sysdump.archive import Archive
from axoneme.core.sysdump.redact import REDACTED, is_secret, scrub

HOOK: Final = "axoneme_collect_sysdump"
Ask = Callable[[str, Mapping[str, Any]], Any]
"""A method of the agent's API and its parameters to the answer. Over a socket in a lab; whoever
can run commands in an agent's pod gives one that does that."""

METHODS: Final = {
    "status.json": "status.get",
    "config-warnings.json": "config.warnings",
    "config-live.json": "config.live",
    "config-drift.json": "config.drift",
    "plugins.json": "plugin.list",
    "endpoints.json": "endpoint.list",
    "identities.json": "identity.list",
    "ipcache.json": "ip.list",
    "nodes.json": "node.list",
    "maps.json": "map.list",
    "bpf-metrics.json": "bpf.metrics",
    "metrics.json": "metrics.list",
    "tables.json": "state.tables",
}


class NodeDump:
    """One node's folder of the archive; handed to ``axoneme_collect_sysdump``."""

    def __init__(self, node: str, ask: Ask, archive: Archive) -> None:
        self.node = node
        self._ask = ask
        self._archive = archive

    def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Ask the node's agent."""
        return self._ask(method, params or {})

    def ask(self, name: str, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Add an agent's answer as file ``name``; a failure is noted in the archive."""
        self.add(name, lambda: self.call(method, params))

    def add(self, name: str, collect: Callable[[], Any]) -> None:
        """Add what ``collect`` returns: bytes as they are, else data, without secrets by name.

        A failure is noted in the archive and costs nothing else.
        """

        def clean() -> Any:
            found = collect()
            return found if isinstance(found, bytes) else scrub(found)

        self._archive.attempt(f"nodes/{self.node}/{name}", clean)

    def note(self, what: str, why: str) -> None:
        """Note that something is missing."""
        self._archive.problems.append(f"nodes/{self.node}/{what}: {why}")


def collect(dump: NodeDump) -> None:
    """Everything of the core, then the plugins' part."""
    for name, method in METHODS.items():
        dump.ask(name, method)
    dump.add("config.json", lambda: [_setting(row) for row in dump.call("config.get")])
    for candidate in find_implementing(HOOK):
        function = getattr(candidate.module, HOOK, None)
        if candidate.error:
            dump.note(f"plugin {candidate.name}", candidate.error)
        elif function is not None:
            try:
                function(dump=dump)
            except Exception as error:
                dump.note(f"plugin {candidate.name}", describe_failure(error))


def _setting(row: Mapping[str, Any]) -> dict[str, Any]:
    hidden = is_secret(str(row["key"])) and row.get("value")
    return {**row, "value": REDACTED} if hidden else dict(row)
