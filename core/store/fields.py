"""Selection of objects by their fields, as an API server does it for Pods (``spec.nodeName``).

Which fields of which kinds an API server takes is fixed: ``metadata.name``, ``metadata.namespace``
and, of Pods, a few more (Kubernetes documentation, field selectors). A folder of manifests has
nobody who fills in what is left out, so there an object that lacks a field is everybody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.model import StoreEvent

Fields = Mapping[str, str]
"""Path with dots to the value that it must have."""


def selector(fields: Fields) -> str:
    """In the API server's words."""
    return ",".join(f"{path}={_escaped(value)}" for path, value in sorted(fields.items()))


def _escaped(value: str) -> str:
    for special in "\\,=":
        value = value.replace(special, "\\" + special)
    return value


def matches(body: Mapping[str, Any], fields: Fields) -> bool:
    """Whether an object of a folder is selected."""
    return all(_value(body, path) in ("", wanted) for path, wanted in fields.items())


def _value(body: Any, path: str) -> str:
    for name in path.split("."):
        body = body.get(name) if isinstance(body, Mapping) else None
    return "" if body is None else str(body)


class Selection:
    """Events of a whole kind turned into those about the selected objects."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._shown: set[ObjectKey] = set()

    def pass_on(self, event: StoreEvent) -> StoreEvent | None:
        """The event for whoever selected; one that is selected no more is deleted to them.

        Of an object that cannot be read nobody knows whose it is.
        """
        key, known = event.key, event.key in self._shown
        if key is None or not self._fields or event.type == "invalid":
            return event
        if event.obj is not None and matches(event.obj.body, self._fields):
            self._shown.add(key)
            return StoreEvent("modified" if known else "added", key, event.obj)
        self._shown.discard(key)
        return StoreEvent("deleted", key) if known else None
