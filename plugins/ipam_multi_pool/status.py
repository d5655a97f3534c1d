"""The IPAM line of ``axoneme status``, pool by pool."""

from __future__ import annotations

from axoneme.core.status import Health, StatusReport
from axoneme.plugins.ipam_multi_pool.source import PoolSource


def report(status: StatusReport, source: PoolSource) -> None:
    """``multi-pool: blue IPv4 3/14 in 1 block``, each block, who holds what, and who waits."""
    totals: dict[tuple[str, int], list[int]] = {}
    lines = []
    for pool, prefix, used, capacity in source.allocator.usage():
        total = totals.setdefault((pool, prefix.version), [0, 0, 0])
        for index, number in enumerate((used, capacity, 1)):
            total[index] += number
        lines.append(f"{pool}: {used}/{capacity} of {prefix}")
    texts = [
        f"{pool} IPv{version} {used}/{capacity} in {count} block{'s' if count > 1 else ''}"
        for (pool, version), (used, capacity, count) in sorted(totals.items())
    ]
    status.line("IPAM", f"multi-pool: {', '.join(texts) or 'no block yet'}")
    status.detail("Blocks of pools", sorted(lines))
    owners = source.allocator.owners().items()
    status.detail("Allocated addresses", [f"{a} ({o})" for a, o in owners])
    waiting = source.allocator.waiting
    if waiting:
        first = min(waiting)
        pools = ", ".join(sorted({name for name, _ in waiting[first]}))
        word = f": {source.word}" if source.word else ""
        text = f"{len(waiting)} pods wait, such as {first} for pool {pools}{word}"
        status.component("ipam", Health.WARNING, text)
    elif not texts:
        status.component("ipam", Health.WARNING, "no block yet")
    else:
        status.component("ipam", Health.OK)
