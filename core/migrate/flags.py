"""The keys of Cilium with their types and defaults (``flags.tsv``): facts to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from attrs import frozen

from axoneme.core.option_types import PARSERS

_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "bool": "bool",
        "duration": "duration",
        "map": "map",
        "stringToString": "map",
        "strings": "strings",
        "string": "string",
    }
    | dict.fromkeys(("int", "int32", "uint", "uint8", "uint16", "uint32"), "int")
    | dict.fromkeys(("float", "float32"), "float")
)
"""Go's types of flags as ours."""


@frozen
class Flag:
    """One key. ``default`` is as Cilium prints it."""

    key: str
    components: tuple[str, ...]
    """``agent``, ``operator``, or ``chart-only`` for what only its chart knows."""
    type: str
    default: str

    def has_default(self, value: str) -> bool:
        """Whether a value, however it is spelled, is the default; an empty one leaves it."""
        if value.strip() in ("", self.default):
            return True
        if self.type in ("bool", "int", "float", "duration") and not self.default:
            return False
        parse = PARSERS[self.type]
        default = self.default.strip("[]") if self.type in ("strings", "map") else self.default
        try:
            return bool(parse(value) == parse(default))
        except ValueError:
            return False


@cache
def flags() -> Mapping[str, Flag]:
    """All of them, by key."""
    text = (files("axoneme.core.migrate") / "flags.tsv").read_text()
    found = {}
    for line in text.splitlines()[1:]:
        key, components, kind, default = line.split("\t")
        found[key] = Flag(key, tuple(components.split()), _TYPES.get(kind, "string"), default)
    return MappingProxyType(found)
