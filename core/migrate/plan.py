"""Compare a ``cilium-config`` with what this installation knows; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

from attrs import frozen

from axoneme.core.config import Config, Option, OptionRegistry
from axoneme.core.config_sources import RawConfig, RawValue
from axoneme.core.migrate.flags import Flag
from axoneme.core.option_types import EMPTY_IS_UNSET
from axoneme.core.text import clean, nearest

PLACES: Final = frozenset({"state-dir", "lib-dir", "socket-path", "cilium-pod-labels"})
"""Cilium's and ours are different on purpose: both may be on one node."""


class Verdict(StrEnum):
    """What becomes of a key; those that want a look come first."""

    NONE = "none"
    """No equivalent, and the value is not just what Cilium does without the key."""
    DIFFERS = "differs"
    """Known here, with another range or another default."""
    MAPS = "maps"
    """Means the same here."""
    UNUSED = "unused"
    """No equivalent, and nothing is lost: the value is Cilium's default."""


@frozen
class Row:
    """One key. ``value`` is empty for one that is not set; ``here`` what an agent makes of it."""

    key: str
    value: str
    verdict: Verdict
    here: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "key": self.key,
            "value": self.value,
            "verdict": str(self.verdict),
            "here": self.here,
            "note": self.note,
        }


def plan(
    values: Mapping[str, Any], registry: OptionRegistry, known: Mapping[str, Flag]
) -> list[Row]:
    """A row for each key that is set, and for each that is not and has another default here."""
    defaults = Config.resolve(registry, RawConfig())
    rows = [_row(key, _text(value), registry, known, defaults) for key, value in values.items()]
    rows += [
        row
        for key, flag in known.items()
        if key not in values
        and (option := registry.get(key)) is not None
        and (row := _unset(option, flag, defaults)) is not None
    ]
    order = list(Verdict)
    return sorted(rows, key=lambda row: (order.index(row.verdict), not row.value, row.key))


def accepted(rows: Iterable[Row]) -> RawConfig:
    """The keys that an agent takes, to look at them together."""
    return RawConfig(
        {
            row.key: RawValue(row.value, "cilium-config")
            for row in rows
            if row.value and row.here and row.verdict in (Verdict.MAPS, Verdict.DIFFERS)
        }
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _row(
    key: str, value: str, registry: OptionRegistry, known: Mapping[str, Flag], defaults: Config
) -> Row:
    option, flag = registry.get(key), known.get(key)
    shown = clean(value)
    if option is None:
        return _without(key, value, flag, registry)
    if not value.strip() and option.type in EMPTY_IS_UNSET:
        row = _unset(option, flag, defaults) if flag is not None else None
        return row or Row(key, shown, Verdict.MAPS, option.format(defaults[key]))
    try:
        here = option.format(option.read(value))
    except ValueError as error:
        return Row(key, shown, Verdict.DIFFERS, "", f"expected {error}")
    if key in PLACES and "cilium" in here:
        note = "a place of Cilium's own: leave the key out"
        return Row(key, shown, Verdict.DIFFERS, option.format(defaults[key]), note)
    return Row(key, shown, Verdict.MAPS, here)


def _without(key: str, value: str, flag: Flag | None, registry: OptionRegistry) -> Row:
    shown, name = clean(value), clean(key)
    if flag is None:
        near = nearest(key, [option.key for option in registry], cutoff=0.75)
        hint = f", did you mean {near}?" if near else ""
        return Row(name, shown, Verdict.NONE, "", f"known neither there nor here{hint}")
    if flag.has_default(value):
        return Row(name, shown, Verdict.UNUSED, "", "the default there")
    default = f"; the default there is {flag.default!r}" if flag.default else ""
    return Row(name, shown, Verdict.NONE, "", f"no equivalent{default}")


def _unset(option: Option, flag: Flag, defaults: Config) -> Row | None:
    """A key that is left to its default, if that is another one here."""
    here = option.format(defaults[option.key])
    if not flag.default or option.key in PLACES:
        return None  # what an empty default means is nowhere written
    try:
        there = option.format(option.read(flag.default.strip("[]")))
    except ValueError:
        there = flag.default
    if there == here:
        return None
    note = f"not set; the default there is {there!r}, here {here!r}"
    return Row(option.key, "", Verdict.DIFFERS, here, note)
