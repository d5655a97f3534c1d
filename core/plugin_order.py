"""The order of plugins: each after what it requires, else by name. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from axoneme.core.errors import PluginError


def order_plugins(requires: Mapping[str, Sequence[str]]) -> list[str]:
    """Sort the names; requirements that are not keys are ignored, the caller has judged them.

    :class:`PluginError` names the cycle when there is one.
    """
    done: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            cycle = [*path[path.index(name) :], name]
            raise PluginError(
                name,
                f"requires itself: {' -> '.join(cycle)}",
                hint="take one name out of REQUIRES",
            )
        path.append(name)
        for other in sorted(requires[name]):
            if other in requires:
                visit(other)
        path.pop()
        done.append(name)

    for name in sorted(requires):
        visit(name)
    return done
