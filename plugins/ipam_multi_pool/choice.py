"""Which pool a pod gets its addresses of. Pure.

The pod's annotations come first, then its namespace's, then the pools whose selectors match, then
the default pool. For each family by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from axoneme.core.errors import NotReadyError
from axoneme.plugins.ipam_multi_pool.tables import FAMILIES, PodIPPool

PREFIX: Final = "ipam.cilium.io/"
ANY: Final = f"{PREFIX}ip-pool"
STRICT: Final = f"{PREFIX}require-pool-match"

Words = Mapping[str, str]


def choose(
    version: int,
    *,
    pod: tuple[Words, Words],
    namespace: tuple[Words, Words],
    pools: Iterable[PodIPPool],
    default: str,
) -> str:
    """The pool's name. ``pod`` and ``namespace``: labels and annotations.

    Of several pools whose selectors match the first by name counts. ``NotReadyError`` if none does
    and the pod insists.
    """
    for words in (pod[1], namespace[1]):
        for key in (f"{PREFIX}{FAMILIES[version]}-pool", ANY):
            if words.get(key):
                return words[key]
    for pool in sorted(pools, key=lambda p: p.name):
        if pool.family(version) is not None and _selects(pool, pod[0], namespace[0]):
            return pool.name
    if pod[1].get(STRICT) == "true":
        raise NotReadyError(
            f"no CiliumPodIPPool with IPv{version} selects the pod, and it has {STRICT}",
            hint="give a pool a podSelector or namespaceSelector that matches",
        )
    return default


def _selects(pool: PodIPPool, pod: Words, namespace: Words) -> bool:
    if pool.pods is None and pool.namespaces is None:
        return False
    return (pool.pods is None or pool.pods.matches(pod)) and (
        pool.namespaces is None or pool.namespaces.matches(namespace)
    )
