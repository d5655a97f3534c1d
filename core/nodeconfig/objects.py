"""The objects that a node's configuration is made of, and how they are laid over each other.

CiliumNodeConfigs whose ``spec.nodeSelector`` matches the node's labels count in the order of their
names: a later one wins over an earlier one, and each of them over the ConfigMap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import field, frozen

from axoneme.core.config_sources import MAX_FILE, RawValue
from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.model.selectors import LabelSelector, decode_selector

KIND: Final = "CiliumNodeConfig"
CONFIG_MAP: Final = "axoneme-config"
_KEY: Final = re.compile(r"[A-Za-z0-9_-][-._A-Za-z0-9]{0,252}")
"""A ConfigMap's keys (Kubernetes), less those with a leading dot: a key is a file's name."""


@frozen
class Layer:
    """Keys and values of one object, and the nodes that they are for."""

    key: ObjectKey
    values: Mapping[str, str]
    selector: LabelSelector = field(factory=LabelSelector)


def decode_config_map(obj: ClusterObject) -> Layer:
    """A ConfigMap. :class:`InvalidObjectError` names a bad key or value."""
    return Layer(obj.key, _values(obj.key, "data", obj.body.get("data")))


def decode_node_config(obj: ClusterObject) -> Layer:
    """A CiliumNodeConfig. :class:`InvalidObjectError` names what is bad."""
    where, spec = str(obj.key), obj.spec
    if spec.get("nodeSelector") is None:
        raise InvalidObjectError(
            where, "spec.nodeSelector", "must be there", hint="{} chooses every node"
        )
    selector = decode_selector(where, "spec.nodeSelector", spec["nodeSelector"])
    return Layer(obj.key, _values(obj.key, "spec.defaults", spec.get("defaults")), selector)


def _values(key: ObjectKey, field: str, found: Any) -> Mapping[str, str]:
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise InvalidObjectError(str(key), field, "must be a mapping of keys to values")
    for name, value in found.items():
        if not isinstance(name, str) or not _KEY.fullmatch(name):
            raise InvalidObjectError(
                str(key), field, f"bad key {str(name)[:80]!r}: expected letters, digits, -, _ and ."
            )
        if not isinstance(value, str):
            raise InvalidObjectError(
                str(key), f"{field}.{name}", f"must be a string, not {value!r}", hint="quote it"
            )
        if len(value.encode()) > MAX_FILE:
            raise InvalidObjectError(str(key), f"{field}.{name}", "is larger than 1 MiB")
    return dict(found)


def lay(
    config_map: Layer | None, node_configs: Iterable[Layer], labels: Mapping[str, str]
) -> dict[str, RawValue]:
    """The values for a node with these labels; each knows the object that it comes from."""
    layers = [config_map] if config_map is not None else []
    chosen = (layer for layer in node_configs if layer.selector.matches(labels))
    layers += sorted(chosen, key=lambda layer: layer.key)
    return {
        name: RawValue(value, str(layer.key), built=True)
        for layer in layers
        for name, value in layer.values.items()
    }
