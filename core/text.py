"""Small helpers for text that people read: cleaning, nearest names, secrets.

Whatever comes from a pod, a manifest or a peer may hold terminal escape sequences
(CVE-2025-48056), so every printed field goes through :func:`clean` first.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean(text: str, *, keep: str = "") -> str:
    """Replace control, formatting and surrogate characters by ``?``; ``keep`` names exceptions.

    Covers C0, DEL, C1 and the bidirectional overrides that make text read as something else.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in keep or unicodedata.category(c) not in _UNPRINTABLE else "?" for c in text
    )


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name most like ``name``, or ``None`` when none is close."""
    import difflib  # noqa: PLC0415  only needed on a mistake, and it is slow to import

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def side_text(side: Mapping[str, Any]) -> str:
    """One side of a flow, its ``address`` and ``port``: ``10.0.0.1:80`` or ``[fd00::1]:80``."""
    address, port = side["address"], side["port"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Secret(Generic[T]):
    """A value that never shows in logs, errors or views; only :meth:`reveal` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself; call it where it is used, nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return "<redacted>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash(self._value)
