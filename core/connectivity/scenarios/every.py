"""All scenarios, by theme."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from axoneme.core.connectivity.model import Scenario
from axoneme.core.connectivity.scenarios import (
    dns,
    external,
    nodes,
    pods,
    policies,
    rules,
    services,
)
from axoneme.core.errors import NotFoundError
from axoneme.core.text import nearest

ALL: tuple[Scenario, ...] = (
    *pods.SCENARIOS,
    *services.SCENARIOS,
    *nodes.SCENARIOS,
    *external.SCENARIOS,
    *policies.SCENARIOS,
    *rules.SCENARIOS,
    *dns.SCENARIOS,
)


def chosen(patterns: Sequence[str]) -> list[Scenario]:
    """Those that a pattern names (``client-*``), all without one; a leading ``!`` leaves out."""
    wanted = [p for p in patterns if not p.startswith("!")]
    found = []
    for scenario in ALL:
        names = (scenario.name, scenario.theme)
        inside = not wanted or any(fnmatch.fnmatch(n, p) for n in names for p in wanted)
        out = any(fnmatch.fnmatch(n, p[1:]) for n in names for p in patterns if p.startswith("!"))
        if inside and not out:
            found.append(scenario)
    if not found:
        near = nearest(patterns[0], [s.name for s in ALL])
        hint = f"did you mean {near}?" if near else "axoneme connectivity test --list"
        raise NotFoundError(f"no scenario is named {' '.join(patterns)}", hint=hint)
    return found
