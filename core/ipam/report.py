"""The IPAM line of ``axoneme status``."""

from __future__ import annotations

from axoneme.core.ipam.allocator import NodeAllocator
from axoneme.core.status import Health, StatusReport


def report(status: StatusReport, allocator: NodeAllocator) -> None:
    """``IPv4: 5/254 allocated from 10.244.1.0/24``, one per block, and who holds what."""
    usage = allocator.usage()
    texts = [
        f"IPv{prefix.version}: {used}/{capacity} allocated from {prefix}"
        for prefix, used, capacity in sorted(usage, key=lambda u: (u[0].version, str(u[0])))
    ]
    status.line("IPAM", ", ".join(texts) or "no pod CIDR yet")
    owners = allocator.owners().items()
    status.detail("Allocated addresses", [f"{a} ({o})" for a, o in owners])
    full = [str(prefix) for prefix, used, capacity in usage if used >= capacity]
    if not usage:
        status.component("ipam", Health.WARNING, "no pod CIDR yet")
    elif full:
        status.component("ipam", Health.WARNING, f"no address left in {', '.join(full)}")
    else:
        status.component("ipam", Health.OK)
