"""Rates of requests that follow the size of the cluster: what Cilium's ``ces-rate-limits`` says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import frozen

MOST_PER_SECOND: Final = 50.0
"""Cilium's, for an API server's sake: what is more counts as this."""
MOST_AT_ONCE: Final = 100

_FIELDS: Final = ("nodes", "limit", "burst")


@frozen
class RateLimit:
    """In a cluster of ``nodes`` or more: ``limit`` requests a second, ``burst`` at once."""

    nodes: int
    limit: float
    burst: int


def parse_rate_limits(text: str) -> tuple[RateLimit, ...]:
    """Read a JSON list of ``{"nodes": N, "limit": REQUESTS, "burst": N}``, sorted by nodes.

    ``ValueError`` completes "expected …" and names the entry and its field.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not found:
        raise ValueError('a JSON list such as [{"nodes": 0, "limit": 10, "burst": 20}]')
    limits: dict[int, RateLimit] = {}
    for index, entry in enumerate(found):
        one = _entry(f"[{index}]", entry)
        if one.nodes in limits:
            raise ValueError(f"another number in [{index}].nodes: {one.nodes} is there already")
        limits[one.nodes] = one
    return tuple(limits[nodes] for nodes in sorted(limits))


def _entry(where: str, entry: Any) -> RateLimit:
    if not isinstance(entry, Mapping):
        raise ValueError(f"an object with {', '.join(_FIELDS)} in {where}")
    fields = {str(name).lower(): value for name, value in entry.items()}  # as Go reads them
    for name in fields.keys() - set(_FIELDS):
        raise ValueError(f"only {', '.join(_FIELDS)} in {where}, not {name[:40]!r}")
    nodes, burst = _whole(fields.get("nodes", 0)), _whole(fields.get("burst"))
    limit = fields.get("limit")
    if nodes < 0:
        raise ValueError(f"a number of nodes in {where}.nodes")
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < 1e9:
        raise ValueError(f"requests per second above 0 in {where}.limit")
    if burst < 1:
        raise ValueError(f"a number of requests of at least 1 in {where}.burst")
    return RateLimit(nodes, min(float(limit), MOST_PER_SECOND), min(burst, MOST_AT_ONCE))


def _whole(value: Any) -> int:
    """A whole number, which Helm may write as 10.0; -1 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return -1
    return int(value)


def rate_limits_complaint(text: str) -> str | None:
    """What is expected instead of ``text``, for an option's ``validate``."""
    try:
        parse_rate_limits(text)
    except ValueError as error:
        return str(error)
    return None


def in_force(limits: Iterable[RateLimit], nodes: int) -> RateLimit:
    """The entry with the most nodes that a cluster of ``nodes`` has; in a smaller one the first."""
    ordered = sorted(limits, key=lambda each: each.nodes)
    reached = [each for each in ordered if each.nodes <= nodes]
    return reached[-1] if reached else ordered[0]
