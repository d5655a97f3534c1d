"""Addresses of resources (Kubernetes API concepts: resource URIs)."""

from __future__ import annotations

from axoneme.core.errors import StoreError
from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.kinds import Kind, KindRegistry


def known(kinds: KindRegistry, kind: str) -> Kind:
    """A declared kind; others have no address that we know."""
    if kind not in kinds:
        raise StoreError(f"kind {kind} is not declared by any plugin")
    return kinds.get(kind)


def collection(kind: Kind, namespace: str = "") -> str:
    """All objects of a kind, or of one namespace."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    inside = f"/namespaces/{namespace}" if kind.namespaced and namespace else ""
    return f"{root}{inside}/{kind.plural}"


def single(kind: Kind, key: ObjectKey, part: str = "") -> str:
    """One object, or a part of it such as its status."""
    path = f"{collection(kind, key.namespace)}/{key.name}"
    return f"{path}/{part}" if part else path
