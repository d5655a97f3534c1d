"""What a reconciler programs: one kind of thing in the kernel, Envoy or a peer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
R_contra = TypeVar("R_contra", contravariant=True)


class Target(Protocol[K, R_contra]):
    """Blocking; the reconciler calls it from one thread of its own, never concurrently.

    A target may have a number ``at_once``: ``apply`` with no more rows than that takes so little
    (some 0.2 ms, no lock that others hold for long) that the loop itself calls it.

    Both methods return the keys that failed with what went wrong; whatever is not named has
    been done. One bad row never keeps the others from being done. Additions come before
    removals.
    """

    name: str

    def apply(
        self, upserts: Mapping[K, R_contra], deletes: Mapping[K, R_contra]
    ) -> Mapping[K, Exception]:
        """Apply a change."""
        ...

    def resync(self, desired: Mapping[K, R_contra]) -> Mapping[K, Exception]:
        """Compare everything that is ours with ``desired``, repair, and sweep the rest."""
        ...
