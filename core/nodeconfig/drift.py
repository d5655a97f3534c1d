"""What is wanted of a node, against what its agent runs with. Pure.

Wanted is what an agent that starts now would run with: the same flags and environment, files as
they are now, and what the API server's objects say. So a key that was removed, or one that a flag
overrides, needs no rule of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attrs import evolve, frozen

from axoneme.core.config import BadValue, Config
from axoneme.core.config_sources import FLAG, RawConfig
from axoneme.core.nodeconfig.objects import Layer, lay

OPERATOR = "operator"


@frozen
class Drift:
    """A key that runs with another value than is wanted."""

    key: str
    running: str
    wanted: str
    source: str
    """Where the wanted value stands."""
    problem: str = ""
    """Why a restart, or what applies it live, would fail."""


@frozen
class Cluster:
    """What the API server holds for this node."""

    config_map: Layer | None
    node_configs: tuple[Layer, ...]
    labels: Mapping[str, str]


def over(files: RawConfig, cluster: Cluster | None) -> RawConfig:
    """Lay the cluster's objects over the files that were made of them.

    What ``build-config`` wrote gives way as a whole, so that a key that is gone from its object is
    gone. Without the ConfigMap there is nothing to say that it is: the files count.
    """
    if cluster is None:
        return files
    values = dict(files.values)
    if cluster.config_map is not None:
        values = {key: value for key, value in values.items() if not value.built}
    laid = lay(cluster.config_map, cluster.node_configs, cluster.labels)
    for key, value in laid.items():
        if key not in values or values[key].origin != FLAG:
            values[key] = value
    return evolve(files, values=values)


def changed(running: Config, wanted: Config) -> Iterator[str]:
    """Keys of the agent whose values differ, sorted."""
    for option in running.registry:
        if option.owner != OPERATOR and running[option.key] != wanted[option.key]:
            yield option.key


def drift(running: Config, wanted: Config, key: str, problem: str = "") -> Drift:
    """The row of a key that differs."""
    option = running.registry.get(key)
    assert option is not None
    texts = option.format(running[key]), option.format(wanted[key])
    return Drift(key, *texts, wanted.origin(key), problem)


def refused(running: Config, bad: Iterable[BadValue]) -> list[Drift]:
    """Rows of values that an agent would not start with."""
    rows = []
    for each in bad:
        option = running.registry.get(each.key)
        assert option is not None
        if option.owner != OPERATOR:
            text, problem = option.format(running[each.key]), f"expected {each.expected}"
            rows.append(Drift(each.key, text, each.text, each.origin, problem))
    return rows


def summary(rows: Iterable[Drift], most: int) -> str:
    """What is the matter with which keys; of each sort ``most`` are named, the rest is counted."""
    listed = list(rows)
    waiting = [row.key for row in listed if not row.problem]
    bad = [row.key for row in listed if row.problem]
    parts = (("not taken", bad), ("waits for a restart", waiting))
    text = "; ".join(f"{what}: {_some(keys, most)}" for what, keys in parts if keys)
    return f"{text} (axoneme config drift)"


def _some(keys: list[str], most: int) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more
