"""Cluster objects of a dump, from any store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from axoneme.core.errors import NotFoundError
from axoneme.core.model.objects import ClusterObject
from axoneme.core.store.kinds import KindRegistry
from axoneme.core.sysdump.archive import Archive
from axoneme.core.sysdump.redact import Scrubber, redacted

List = Callable[[str], Sequence[ClusterObject]]
SECRET: Final = "Secret"  # noqa: S105 - a kind


def kinds_of(registry: KindRegistry) -> list[str]:
    """Every declared kind; Secrets first, so that their values are known when others are read."""
    return sorted((k.kind for k in registry), key=lambda kind: (kind != SECRET, kind))


def collect(archive: Archive, scrubber: Scrubber, kinds: Iterable[str], list_: List) -> None:
    """One file for each kind of which there are objects; a kind that is not served is none."""
    for kind in kinds:
        name = f"objects/{kind}.json"
        try:
            found = list_(kind)
        except NotFoundError:
            continue
        except Exception as error:  # a right that is missing, say
            archive.problems.append(f"{name}: {error}")
            continue
        if kind == SECRET:
            for obj in found:
                scrubber.learn(obj.body)
        if found:
            archive.attempt(name, partial(_shown, found))


def _shown(objects: Sequence[ClusterObject]) -> list[dict[str, Any]]:
    return [redacted(obj.body) for obj in objects]
