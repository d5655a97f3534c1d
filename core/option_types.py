"""Types of configuration values: read from a ConfigMap, a flag or YAML, and written back.

Values are spelled as Cilium spells them (``"true"``, ``"5m0s"``, ``"a=1,b=2"``). A reader raises
``ValueError`` whose text completes "expected …"; who calls it knows the key and names it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Any, Final

_TRUE: Final = frozenset({"1", "t", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "f", "false", "no", "off"})

_UNIT_SECONDS: Final = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: ``5m0s``, ``1.5h``, ``300ms``, ``0``; signs are refused."""
    if text == "0":
        return 0.0
    seconds = 0.0
    position = 0
    while position < len(text):
        part = _DURATION_PART.match(text, position)
        if part is None:
            break
        seconds += float(part[1]) * _UNIT_SECONDS[part[2]]
        position = part.end()
    if not text or position < len(text):
        raise ValueError("a duration such as 30s, 5m0s or 1h30m")
    return seconds


def format_duration(seconds: float) -> str:
    """A duration as Go prints it: ``5m0s``, ``300ms``, ``0s``."""
    nanoseconds = round(seconds * 1e9)
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if nanoseconds >= size:
                number = f"{nanoseconds / size:.6f}".rstrip("0").rstrip(".")
                return f"{number}{unit}"
    whole, rest = divmod(nanoseconds, 10**9)
    hours, whole = divmod(whole, 3600)
    minutes, whole = divmod(whole, 60)
    second = f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)
    if hours:
        return f"{hours}h{minutes}m{second}s"
    return f"{minutes}m{second}s" if minutes else f"{second}s"


def _bool(raw: Any) -> bool:
    word = str(raw).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("true or false")


def _int(raw: Any) -> int:
    if isinstance(raw, bool):
        raise ValueError("an integer")
    try:
        return raw if isinstance(raw, int) else int(str(raw).strip(), 10)
    except ValueError:
        raise ValueError("an integer") from None


def _float(raw: Any) -> float:
    try:
        number = float(str(raw).strip())
    except ValueError:
        raise ValueError("a number") from None
    if not math.isfinite(number):
        raise ValueError("a finite number")
    return number


def _string(raw: Any) -> str:
    if isinstance(raw, list | tuple | Mapping):
        raise ValueError("a single value, not a list or a mapping")
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return str(raw).strip()


def _strings(raw: Any) -> tuple[str, ...]:
    if isinstance(raw, list | tuple):
        if any(isinstance(item, list | tuple | Mapping) for item in raw):
            raise ValueError("a list of plain values")
        return tuple(_string(item) for item in raw)
    if isinstance(raw, Mapping):
        raise ValueError("a list, separated by commas or spaces")
    text = str(raw).strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return tuple(word.strip("\"'") for word in re.split(r"[,\s]+", text) if word.strip("\"'"))


def _duration(raw: Any) -> float:
    return parse_duration(str(raw).strip())


def _network(
    raw: Any, kind: type[IPv4Network] | type[IPv6Network], example: str
) -> IPv4Network | IPv6Network:
    try:
        # Host bits are masked off, as Go's ParseCIDR does for the same keys.
        return kind(str(raw).strip(), strict=False)
    except ValueError:
        family = "IPv4" if kind is IPv4Network else "IPv6"
        raise ValueError(f"an {family} CIDR such as {example}") from None


def _cidr4(raw: Any) -> IPv4Network | IPv6Network:
    return _network(raw, IPv4Network, "10.0.0.0/8")


def _cidr6(raw: Any) -> IPv4Network | IPv6Network:
    return _network(raw, IPv6Network, "fd00::/104")


def _cidrs4(raw: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(_cidr4(word) for word in _strings(raw))


def _cidrs6(raw: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(_cidr6(word) for word in _strings(raw))


def _map(raw: Any) -> Mapping[str, str]:
    wanted = "a map such as a=1,b=2 or a JSON object"
    if isinstance(raw, str):
        text = raw.strip()
        if text.startswith("{"):
            try:
                raw = json.loads(text)
            except ValueError:
                raise ValueError(wanted) from None
        else:
            pairs: dict[str, str] = {}
            for word in _strings(text):
                key, equals, value = word.partition("=")
                if not equals or not key:
                    raise ValueError(wanted)
                pairs[key] = value
            raw = pairs
    if not isinstance(raw, Mapping):
        raise ValueError(wanted)
    return MappingProxyType({str(k): _string(v) for k, v in raw.items()})


def _json(raw: Any) -> str:
    """Its text in one form; the values inside are the option's own ``validate``'s to judge."""
    try:
        found = json.loads(raw) if isinstance(raw, str) else raw
        if not isinstance(found, list | tuple | Mapping):
            raise ValueError(raw)
        return json.dumps(found, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise ValueError("a JSON list or object") from None


PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "bool": _bool,
        "int": _int,
        "float": _float,
        "string": _string,
        "strings": _strings,
        "duration": _duration,
        "cidr4": _cidr4,
        "cidr6": _cidr6,
        "cidrs4": _cidrs4,
        "cidrs6": _cidrs6,
        "map": _map,
        "json": _json,
    }
)

EMPTY_IS_UNSET: Final = frozenset({"bool", "int", "float", "duration", "cidr4", "cidr6", "json"})
"""Types for which an empty text is no value: a chart that renders ``key: ""`` means the default."""


def format_value(kind: str, value: Any) -> str:
    """The value in the spelling of a ConfigMap; ``""`` for what is not set."""
    if value is None:
        return ""
    if kind == "bool":
        return "true" if value else "false"
    if kind == "duration":
        return format_duration(value)
    if isinstance(value, Mapping):
        return ",".join(f"{k}={v}" for k, v in sorted(value.items()))
    if isinstance(value, Iterable) and not isinstance(value, str | IPv4Network | IPv6Network):
        return " ".join(str(item) for item in value)
    return str(value)
