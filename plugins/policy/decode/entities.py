"""Entities: the words of ``fromEntities`` and ``toEntities`` as selectors (reference §2.2)."""

from __future__ import annotations

from typing import Final

from axoneme.core.model.labels import K8S, NAMESPACE_KEY, RESERVED
from axoneme.core.model.policy import Operator, Requirement, Selector


def _reserved(word: str) -> Selector:
    return Selector((Requirement(RESERVED, word, Operator.EXISTS),))


_WORDS: Final = (
    "world",
    "world-ipv4",
    "world-ipv6",
    "host",
    "init",
    "ingress",
    "unmanaged",
    "remote-node",
    "health",
    "none",
    "kube-apiserver",
)

NAMES: Final = ("all", "cluster", *_WORDS)

_CLUSTER: Final = (
    "host",
    "remote-node",
    "init",
    "ingress",
    "health",
    "unmanaged",
    "kube-apiserver",
)


def entity(word: str) -> list[Selector]:
    """Selectors of an entity. ``none`` is a label that nobody carries; ``all`` has no term.

    Pods of ``cluster`` are all pods: until clusters are meshed there are no others.
    """
    if word == "all":
        return [Selector()]
    if word == "cluster":
        pods = Selector((Requirement(K8S, NAMESPACE_KEY, Operator.EXISTS),))
        return [*map(_reserved, _CLUSTER), pods]
    return [_reserved(word)]
