"""The core's keys of following a configuration that changes while the agent runs."""

from __future__ import annotations

from axoneme.core.config import OptionRegistry


def register(options: OptionRegistry) -> None:
    """Declare them; part of :func:`axoneme.core.options.register`."""
    add = options.add
    add(
        "enable-dynamic-config",
        "bool",
        True,
        "Follow the configuration while the agent runs, and apply what needs no restart",
        component="agent",
        helm="configDriftDetection.enabled",
    )
    add(
        "enable-drift-checker",
        "bool",
        True,
        "Report keys that run with another value than the configuration says",
        component="agent",
        helm="configDriftDetection.driftChecker",
    )
    add(
        "ignore-flags-drift-checker",
        "strings",
        "",
        "Keys that the drift checker leaves out",
        component="agent",
        helm="configDriftDetection.ignoredKeys",
    )
