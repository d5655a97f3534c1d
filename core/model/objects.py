"""Cluster objects as the store hands them out: metadata typed, body untouched.

The body of an object stays a plain mapping until the decoder of its kind turns it into a row;
no other module looks into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

EMPTY: Mapping[str, Any] = MappingProxyType({})


@frozen(order=True)
class ObjectKey:
    """Identifies an object: CamelCase kind, namespace (``""`` if cluster-wide), name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {name}"


@frozen(eq=False)
class ClusterObject:
    """One object. ``body`` is the whole manifest, metadata included; never change it."""

    key: ObjectKey
    api_version: str
    uid: str = ""
    resource_version: str = ""
    labels: Mapping[str, str] = field(default=EMPTY)
    annotations: Mapping[str, str] = field(default=EMPTY)
    body: Mapping[str, Any] = field(default=EMPTY, repr=False)

    @property
    def spec(self) -> Mapping[str, Any]:
        """The ``spec`` mapping; empty when absent or not a mapping."""
        spec = self.body.get("spec")
        return spec if isinstance(spec, Mapping) else EMPTY

    @property
    def status(self) -> Mapping[str, Any]:
        """The ``status`` mapping; empty when absent or not a mapping."""
        status = self.body.get("status")
        return status if isinstance(status, Mapping) else EMPTY
