"""CiliumIdentity objects to rows and back.

The name is the number; ``security-labels`` maps ``source:key`` to the value, and nothing else of
the object matters (reference: CiliumIdentity, ``cilium.io/v2``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.identity import MAX_CLUSTER, MIN_CLUSTER, Identity
from axoneme.core.model.labels import CIDR, NAMESPACE_KEY, RESERVED, Label, LabelSet
from axoneme.core.model.objects import ClusterObject

KIND: Final = "CiliumIdentity"
UNUSED_ANNOTATION: Final = "axoneme.io/unused-since"
"""Set by the operator's first pass over an unused identity; whoever uses it again removes it."""


def decode_identity(obj: ClusterObject) -> Identity:
    """Read a CiliumIdentity; :class:`InvalidObjectError` names the field that is wrong."""
    where = str(obj.key)
    name = obj.key.name
    if not name.isascii() or not name.isdigit() or len(name) > 10:
        raise InvalidObjectError(where, "metadata.name", f"{name!r} is not a number")
    number = int(name)
    if not MIN_CLUSTER <= number & 0xFFFF <= MAX_CLUSTER or number >= 1 << 24:
        raise InvalidObjectError(where, "metadata.name", f"{number} is outside the cluster scope")
    labels = obj.body.get("security-labels")
    if not isinstance(labels, Mapping):
        raise InvalidObjectError(where, "security-labels", "must be a mapping")
    return Identity(number, LabelSet.of(_labels(where, labels)))


def _labels(where: str, labels: Mapping[Any, Any]) -> list[Label]:
    found = []
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidObjectError(where, f"security-labels.{name}", "must be text")
        source, colon, key = name.partition(":")
        if not colon or not source or not key:
            raise InvalidObjectError(where, f"security-labels.{name}", "must be source:key")
        if source in (RESERVED, CIDR):  # nobody can name a pod "host" through the store
            raise InvalidObjectError(where, f"security-labels.{name}", f"source {source} is ours")
        found.append(Label(source, key, value))
    return found


def encode_identity(number: int, labels: LabelSet) -> dict[str, Any]:
    """The manifest of a CiliumIdentity."""
    metadata: dict[str, Any] = {"name": str(number)}
    namespace = labels.get("k8s", NAMESPACE_KEY)
    if namespace:
        metadata["labels"] = {NAMESPACE_KEY: namespace}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": KIND,
        "metadata": metadata,
        "security-labels": {f"{x.source}:{x.key}": x.value for x in labels},
    }
